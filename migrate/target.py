"""Where an image goes: object storage, the import of custom images, instances of them. Adapters implement these Protocols."""

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


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What the user says of the instance. `vpc` and `security_groups` are names or ids; None, or none at all, means the cloud's default.

    `machine_type` None means the smallest that fits; `name` None means the VM's own.
    """

    ssh_key: str
    machine_type: str | None = None
    name: str | None = None
    vpc: str | None = None
    security_groups: tuple[str, ...] = ()
    zone: str | None = None
    public_ip: bool = True
    tags: bool = True


@dataclass(frozen=True, slots=True)
class InstanceOrder:
    """An instance to be made. `mark` is the job's: what is made is known again by it. `disk_bytes` is the image's disk.

    `needs` is what the VM has at its source; a machine type that is named may have less memory and fewer processors, never less disk.
    """

    name: str
    mark: str
    options: LaunchOptions
    needs: Requirements
    disk_bytes: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Instance:
    """A virtual machine in the cloud. `status` in the API's own words ("running, completed"); addresses are None where it has none."""

    id: str
    name: str
    machine_type: str
    status: str
    private_ipv4: str | None = None
    public_ipv4: str | None = None
    ipv6: str | None = None


class Launcher(Protocol):
    def refuses(self, order: InstanceOrder) -> list[Reason]:
        """Return every reason why this instance could not be made, as far as the cloud tells beforehand. Quotas it does not tell."""

    def launch(self, order: InstanceOrder, image_id: str) -> Instance:
        """Make the instance of an active image and wait until it runs. A second call finds the first one's, by our mark.

        Raise TargetError with the cloud's own words where it is refused or fails, TargetBusy where it takes too long.
        """

    def instance(self, id_: str) -> Instance | None:
        """Return an instance as it is now; None where it is gone."""

    def console(self, id_: str) -> tuple[str, ...]:
        """Return the end of what the instance's guest wrote to its console, foreign text; empty where the cloud does not tell."""


class Upload(Protocol):
    """An object on its way, in numbered parts from 1 on, all but the last of `part_bytes`. Safe from several threads."""

    @property
    def id(self) -> str:
        """What names it to `Target.resume`."""

    @property
    def part_bytes(self) -> int: ...

    def arrived(self) -> Mapping[int, str]:
        """Return the MD5, in hex, of each part that the storage is sure to have."""

    def send(self, number: int, content: bytes, md5: str) -> None:
        """The part is there; the storage has checked this MD5, in hex. Raise TargetError where it refuses."""

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

    @property
    def object_limit(self) -> int:
        """The largest object that is stored, in bytes; it need not be an image."""

    def upload(self, key: str, mark: str, most_bytes: int = 0) -> Upload:
        """Begin an object anew, of `most_bytes` at most: parts are as large as that needs. `mark` is known again in what becomes of it.

        What was unfinished under this key is given up.
        """

    def resume(self, key: str, mark: str, id_: str, part_bytes: int | None = None) -> Upload | None:
        """Return the unfinished upload of this id, which was begun with such parts; None where there is none any more."""

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
