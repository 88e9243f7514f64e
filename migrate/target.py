"""Where an image goes: object storage and the import of custom images. Adapters implement this Protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from migrate.errors import Reason
from migrate.source import Firmware


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object in a bucket, its size in bytes, and the mark that its upload was begun with: by it an object is known again."""

    bucket: str
    key: str
    bytes: int
    mark: str


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


class Upload(Protocol):
    """An object on its way, in numbered parts from 1 on, all but the last of `part_bytes`. Safe from several threads."""

    @property
    def id(self) -> str:
        """What names it to `Target.resume`."""

    @property
    def part_bytes(self) -> int: ...

    def arrived(self) -> Mapping[int, str]:
        """Return the MD5, in hex, of each part that the storage is sure to have."""

    def send(self, number: int, content: bytes) -> None:
        """The part is there; the storage has checked its MD5. Raise TargetError where it refuses."""

    def complete(self, md5: Sequence[str], length: int) -> ObjectRef:
        """The parts, whose MD5s these are in order, are the object of so many bytes. Raise TargetError where it is another one."""

    def give_up(self) -> None:
        """The unfinished upload and its parts are gone."""


class Target(Protocol):
    def refuses(self, *, name: str, size_bytes: int | None, firmware: Firmware) -> list[Reason]:
        """Return every reason why an image so made would not be taken, before anything is sent; `size_bytes` of the file, if known."""

    @property
    def file_limit(self) -> int:
        """The largest image file that is taken, in bytes."""

    def upload(self, key: str, mark: str) -> Upload:
        """Begin an object anew. `mark` is known again in what becomes of it. What was unfinished under this key is given up."""

    def resume(self, key: str, mark: str, id_: str) -> Upload | None:
        """Return the unfinished upload of this id; None where there is none any more."""

    def stored(self, key: str, mark: str) -> ObjectRef | None:
        """Return the object under this key whose upload was begun with this mark; None where there is none."""

    def read(self, source: ObjectRef, offset: int, length: int) -> bytes:
        """Return bytes of the object, fewer where it ends. Safe from several threads."""

    def import_image(
        self,
        source: ObjectRef,
        *,
        name: str,
        disk_sha256: str,
        firmware: Firmware,
        requirements: Requirements,
        description: str,
    ) -> Image:
        """Import the object and wait until the image is active. A second call finds the first one's image, by name and disk.

        Raise TargetError with the cloud's own words where it is refused or fails.
        """

    def status(self, id_: str) -> str | None:
        """Return the status that an image has now; None where it is gone."""

    def discard(self, source: ObjectRef) -> None:
        """Delete the object and any unfinished upload of it. A second call finds nothing and succeeds."""
