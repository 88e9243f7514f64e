"""Where a VM's disks come from: what a source can tell and give. Adapters implement these Protocols."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from migrate.errors import Reason
from migrate.ledger import Made


class Firmware(Enum):
    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of bytes of a disk; `zero` where it is known to read as zeros."""

    offset: int
    length: int
    zero: bool


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card of the source VM. `mac` is lower case with colons."""

    name: str
    mac: str | None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk as the guest sees it; `size` in bytes. The first disk of a VM is the one it boots from."""

    name: str
    size: int
    format: str


@dataclass(frozen=True, slots=True)
class Vm:
    """What a source knows of a VM before any of its disks is read. None where it does not say."""

    name: str
    origin: str
    disks: tuple[Disk, ...]
    firmware: Firmware | None = None
    vcpus: int | None = None
    memory_bytes: int | None = None
    nics: tuple[Nic, ...] = ()
    os_hint: str | None = None
    address: str | None = None
    power: str | None = None
    """In the source's own words: "poweredOn", "running", "deallocated" …"""
    description: str = ""
    tags: tuple[tuple[str, str], ...] = ()
    doubts: tuple[Reason, ...] = ()
    """What forbids the move unless the user waives it; what nobody can waive makes `describe` raise instead."""


@dataclass(frozen=True, slots=True)
class VmRef:
    """A VM's address as the user writes it: a path, or `vmware://…`, `azure://…`, `aws://…`."""

    address: str
    name: str


class BlockSource(Protocol):
    """One disk at one point in time, read-only, safe from several threads."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""

    def extents(self) -> Iterator[Extent]:
        """Yield the whole disk in order, without gaps, in bytes.

        A source that cannot tell yields one extent that is not zero. Raise SourceBusy where another try may do better.
        """

    def nbd(self) -> AbstractContextManager[str]:
        """Serve the disk read-only on a unix socket; the block sees its nbd+unix URI, and may connect several times."""


class Source(Protocol):
    @property
    def freezes_nothing(self) -> bool:
        """Whether `freeze` leaves the source as it is: a VM that will be refused may be looked at, too."""

    def vms(self) -> Iterator[VmRef]:
        """Yield what there is to migrate."""

    def describe(self, ref: VmRef) -> Vm:
        """Return what is known without reading disks. Raise NotMigratable with every reason that forbids the migration."""

    def freeze(self, vm: Vm, name: str) -> str:
        """Make (or find, on a second call) the VM's frozen state and return a token that names it after a restart."""

    def frozen(self, token: str) -> AbstractContextManager[Sequence[BlockSource]]:
        """Open the frozen disks, boot disk first. Leaving closes, and deletes nothing."""

    def release(self, token: str) -> None:
        """Undo `freeze`. A second call finds nothing and succeeds."""


def check_unchanged(source: Source, token: str) -> None:
    """What was read is one state of the disk. Raise SourceError where a file was written to meanwhile; what was frozen cannot be."""
    if source.freezes_nothing:
        with source.frozen(token):
            pass


class LiveSource(Source, Protocol):
    """A cloud, or a hypervisor's management: it can be listed, and what was made there must be taken back."""

    def list(self) -> Iterator[Vm]:
        """Yield every VM that the address names, globs included, with what is known without asking for each one. No refusals."""

    def undo(self, made: Sequence[Made]) -> Iterator[str]:
        """Take back what an unfinished job made here; yield in words what could not be. Only what carries our mark is touched."""
