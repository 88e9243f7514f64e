"""What `freeze` gives: which snapshots or objects are read, and whether they are ours."""

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import SourceError


class FrozenDisk(BaseModel):
    """`name` is the device's, `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    snapshot: str
    name: str
    size: int


class ExportedDisk(BaseModel):
    """A raw disk as an object. `name` is the device's, `size` in bytes, `etag` as S3 writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bucket: str
    key: str
    etag: str
    name: str
    size: int


class Token(BaseModel):
    """The frozen disks, boot disk first. `of` is the instance, AMI or snapshot; `job` is None where nothing was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    of: str
    job: str | None
    disks: tuple[FrozenDisk | ExportedDisk, ...]

    def text(self) -> str:
        return self.model_dump_json()


def read_token(text: str) -> Token:
    try:
        return Token.model_validate_json(text)
    except ValidationError as error:
        raise SourceError("this token is none of AWS's", hint="Start the migration anew.") from error
