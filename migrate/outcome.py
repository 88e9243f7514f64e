"""What became of one VM: what each stage leaves in the job's folder, and the final JSON object."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from migrate.source import Firmware, Vm
from migrate.target import Image, ObjectRef

JsonObject = dict[str, JsonValue]


class StageResult(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Frozen(StageResult):
    """`token` names the source's frozen state after a restart."""

    token: str


class Repaired(StageResult):
    """The overlay holds a repaired guest. `changes` as the preview's JSON has them; `login` is who the key will admit."""

    changes: JsonObject
    firmware: Firmware
    login: str | None
    root_grows: bool


class Proven(StageResult):
    """The repaired disk was booted, and every claim that decides holds."""

    proof: JsonObject


class Sent(StageResult):
    """The image is an object. Sizes in bytes; `kept` is a file that holds it, too; `disk_sha256` as migrate.block_map has it."""

    bucket: str
    key: str
    bytes: int
    mark: str
    virtual_bytes: int
    disk_sha256: str
    kept: Path | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.bucket, self.key, self.bytes, self.mark)


class Imported(StageResult):
    """The image is active. `object_kept`: the object was left to the user."""

    id: str
    name: str
    status: str
    object_kept: bool

    @classmethod
    def of(cls, image: Image, *, object_kept: bool) -> "Imported":
        return cls(id=image.id, name=image.name, status=image.status, object_kept=object_kept)


@dataclass(slots=True)
class Outcome:
    """What became of it, stage by stage. `bytes_read` of the source, in all runs of the job; `seconds` of this one."""

    status: str = "failed"
    vm: Vm | None = None
    repaired: Repaired | None = None
    proven: Proven | None = None
    sent: Sent | None = None
    imported: Imported | None = None
    bytes_read: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the final JSON object. A stage that was not reached, or not wanted, is null."""
        return {
            "status": self.status,
            "name": self.vm.name if self.vm else None,
            "origin": self.vm.origin if self.vm else None,
            "image": self.imported and self.imported.model_dump(include={"id", "name", "status"}),
            "object": self.sent
            and {
                **self.sent.model_dump(include={"bucket", "key", "bytes"}),
                "kept": self.imported is None or self.imported.object_kept,
            },
            "qcow2": self.sent
            and {
                "path": str(self.sent.kept) if self.sent.kept else None,
                **self.sent.model_dump(include={"bytes", "virtual_bytes", "disk_sha256"}),
            },
            "changes": self.repaired and self.repaired.changes,
            "proof": self.proven and self.proven.proof,
            "login": self.repaired and self.repaired.login,
            "seconds": self.seconds,
            "bytes_read": self.bytes_read,
        }
