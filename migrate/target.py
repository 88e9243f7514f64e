"""Where an image goes: object storage and the import of custom images. Adapters implement this Protocol."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from migrate.errors import Reason
from migrate.source import Firmware


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object in a bucket, and its size in bytes."""

    bucket: str
    key: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Requirements:
    """What an instance needs at least. `disk_gb` in decimal gigabytes, `ram_gb` in GiB, both rounded up."""

    vcpu: int
    ram_gb: int
    disk_gb: int


@dataclass(frozen=True, slots=True)
class Image:
    """A custom image; `status` in the API's own words ("importing", "active", "invalid_image" …)."""

    id: str
    name: str
    status: str


class Target(Protocol):
    def refuses(self, *, name: str, size_bytes: int | None, firmware: Firmware) -> list[Reason]:
        """Return every reason why an image so made would not be taken, before anything is sent; `size_bytes` of the file, if known."""

    def upload(self, path: Path, *, key: str) -> ObjectRef:
        """Send the file in parts. A second call sends the missing parts only."""

    def import_image(
        self, source: ObjectRef, *, name: str, firmware: Firmware, requirements: Requirements, description: str
    ) -> Image:
        """Import the object and wait until the image is active. A second call finds the first one's image.

        Raise TargetError with the cloud's own words where it is refused or fails.
        """

    def status(self, id_: str) -> str | None:
        """Return the status that an image has now; None where it is gone."""

    def discard(self, source: ObjectRef) -> None:
        """Delete the object and any unfinished upload of it. A second call finds nothing and succeeds."""
