"""The token of a frozen VM: what finds its snapshot and its disks again after a restart. No secret is in it."""

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import SourceError
from migrate.text import one_line


class TokenDisk(BaseModel):
    """`file` is the snapshot's own, "[DATASTORE] FOLDER/NAME.vmdk"; `is_delta` where it holds a difference only. `size` in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: int
    label: str
    size: int
    file: str
    device: str
    is_delta: bool


class Token(BaseModel):
    """`host` as in the address; `vm`, `snapshot` are ids there; disks boot disk first."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    host: str
    vm: str
    instance: str
    name: str
    datacenter: str
    snapshot: str
    snapshot_name: str
    tracked: bool
    disks: tuple[TokenDisk, ...]

    def text(self) -> str:
        return json.dumps(self.model_dump(mode="json"))


def read_token(text: str) -> Token:
    """Read a token; raise SourceError where it is not one."""
    try:
        return Token.model_validate_json(text)
    except ValidationError:
        raise SourceError(
            f"not a token of a frozen VM of vSphere: {one_line(text[:80])}", hint="Start the migration anew."
        ) from None
