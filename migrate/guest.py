"""The system on the disk, as the repairs see it: a narrow Protocol and its values.

There is no free command: its effect could not be shown beforehand. Paths are absolute and *resolved*: only their last part may be
a symbolic link (migrate.draft resolves them). Implementations are in migrate.guests; one contract suite passes on all.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from migrate.source import Firmware


class Kind(Enum):
    MISSING = "missing"
    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"
    """A device, socket or pipe: seen and removed, never read or written. So is what has a name that nobody can speak of."""


@dataclass(frozen=True, slots=True)
class File:
    content: bytes = field(repr=False)
    mode: int = 0o644
    uid: int = 0
    gid: int = 0

    @property
    def text(self) -> str:
        """Odd encodings survive a round trip: PEP 383."""
        return self.content.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Link:
    target: str


@dataclass(frozen=True, slots=True)
class Folder:
    mode: int = 0o755
    uid: int = 0
    gid: int = 0


Entry = File | Link | Folder


class Packaging(Enum):
    """Whose package database the guest has; the id in os-release does not tell it for every guest."""

    DPKG = "dpkg"
    RPM = "rpm"
    APK = "apk"
    PACMAN = "pacman"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Os:
    """Who the guest is, from os-release(5), the ELF header of its shell, and its package database. `arch` in dpkg's words ("amd64")."""

    id: str
    id_like: tuple[str, ...] = ()
    version_id: str = ""
    codename: str = ""
    pretty: str = ""
    arch: str = "amd64"
    packaging: Packaging = Packaging.DPKG

    @property
    def family(self) -> str:
        """ "debian", "rhel", "suse", … or the guest's own id."""
        for known in ("debian", "rhel", "suse"):
            if known in (self.id, *self.id_like):
                return known
        kin = {
            "ubuntu": "debian",
            "fedora": "rhel",
            "centos": "rhel",
            "opensuse": "suse",
            "sles": "suse",
            "amzn": "rhel",
        }
        return next((kin[word] for word in (self.id, *self.id_like) if word in kin), self.id)


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package. `record` is its stanza in the package database, for resolvers; `size` what it takes, in bytes."""

    name: str
    version: str
    arch: str = "amd64"
    record: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PackageChange:
    """What one transaction of the package manager installs and removes, dependencies included.

    `origin` says in words where the packages come from; `download_bytes` is what must be fetched, `installed_bytes` what the new packages take on
    the disk, 0 where that is not known. `passed` says of each place that was asked before, why it did not serve.
    """

    install: tuple[Package, ...] = ()
    remove: tuple[Package, ...] = ()
    origin: str = ""
    download_bytes: int = 0
    installed_bytes: int = 0
    passed: tuple[str, ...] = ()


class Rebuild(Enum):
    INITRAMFS = "initramfs"
    BOOTLOADER = "bootloader"
    SELINUX_LABELS = "selinux labels"


@dataclass(frozen=True, slots=True)
class Filesystem:
    """Something with a superblock: a file system, swap space or a volume's content.

    `device` is the name in the appliance's order ("/dev/sda2", "/dev/vg0/root"); `disk` counts from 0 and `partition` from 1,
    both None on a logical volume. `mountpoint` is where the guest's fstab mounts it ("swap" for swap space), None where it does not.
    Offsets and sizes in bytes; `start` is None on a logical volume. `free` is what can still be written into a mounted file system,
    None where that is not known. `disks` are those without which a logical volume does not start, () where it is a partition, or they are not known.
    """

    device: str
    type: str
    size: int
    uuid: str | None = None
    label: str | None = None
    partuuid: str | None = None
    disk: int | None = None
    partition: int | None = None
    start: int | None = None
    mountpoint: str | None = None
    free: int | None = None
    disks: tuple[int, ...] = ()

    @property
    def on_boot_disk(self) -> bool:
        """Whether the image, which is made of the first disk, will have it."""
        return all(number == 0 for number in (*self.disks, *(() if self.disk is None else (self.disk,))))


@dataclass(frozen=True, slots=True)
class Layout:
    """The disks as they are divided. `root` is the device of the root file system; `table` is "gpt" or "dos"; `disk_size` of the boot disk."""

    filesystems: tuple[Filesystem, ...]
    root: str
    firmware: Firmware
    disk_size: int
    table: str

    @property
    def root_filesystem(self) -> Filesystem:
        return next(fs for fs in self.filesystems if fs.device == self.root)


@dataclass(frozen=True, slots=True)
class DropPartition:
    """Delete a partition from its disk's table; its content is given up. An extended partition that is empty then goes with it."""

    disk: int
    partition: int


@dataclass(frozen=True, slots=True)
class MakeSwapFile:
    """Make a swap file of `size` bytes, mode 0600, formatted by mkswap."""

    path: str
    size: int


LayoutChange = DropPartition | MakeSwapFile


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of a path without reading it. `size` in bytes; `mark` is another one whenever the content may be another.

    Of a link, device, socket or pipe there is no mode and no owner, and only a file has a size.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    mark: str


class Guest(Protocol):
    @property
    def os(self) -> Os: ...

    @property
    def layout(self) -> Layout: ...

    @property
    def packages(self) -> Mapping[str, Package]:
        """What is installed now, by name, read from the guest's package database."""

    def files_of(self, package: str) -> frozenset[str]:
        """Return the paths that an installed package owns, configuration files included."""

    def kind(self, path: str) -> Kind:
        """What is at a path, a link at its end not followed."""

    def load(self, path: str) -> Entry:
        """Return what is at a path. Raise GuestError where there is nothing, or something of Kind.OTHER."""

    def names(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; () where there is no folder."""

    def statuses(self) -> Mapping[str, Status]:
        """Return everything that there is but the root folder, mounted file systems included. Nothing is read.

        A name that an implementation cannot ask about is left out, with what is in it.
        """

    def store(self, path: str, entry: Entry | None) -> None:
        """Put an entry at a path, replacing what is there; None removes it. Its folder must exist; a folder is removed only when empty.

        Attributes that an Entry does not name (ACLs, xattrs) of a file that is replaced are kept where the implementation can.
        """

    def remove(self, path: str) -> None:
        """Nothing is at a path: a file, link, device, socket or pipe goes, a folder with all that is in it, links in it not followed."""

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """Return those of the paths that chattr(1) has made immutable or append-only, as far as that can be asked.

        `store` and `remove` change them all the same, and what is still there afterwards is as immutable as it was.
        """

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        """Return the transaction that would install and remove these, resolved against `installed` (default: `packages`).

        Names that already hold are left out. Raise PackagesUnavailable where it cannot be resolved or its packages cannot be had.
        """

    def change_packages(self, change: PackageChange) -> None:
        """Perform a planned transaction with the guest's own package manager, without network, services not started.

        Identities that package scripts make meanwhile (ssh host keys) are not kept: each instance makes its own.
        """

    def change_layout(self, change: LayoutChange) -> None: ...

    def rebuild(self, what: Rebuild) -> None:
        """Build anew from the guest's own configuration with the guest's own programs."""
