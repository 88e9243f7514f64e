"""A guest whose disks are in the libguestfs appliance: its files through libguestfs, its programs chrooted there."""

import stat
import tarfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from migrate.errors import GuestError
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Folder,
    Kind,
    Layout,
    LayoutChange,
    Link,
    MakeSwapFile,
    Package,
    PackageChange,
    Rebuild,
    Status,
)
from migrate.guests import programs, rebuilds
from migrate.guests.appliance import SMALL, Calls, Mounted, NotUtf8, temporary_file
from migrate.guests.disks import SECTOR, disk_device, has_extended
from migrate.guests.files import MOST_BYTES
from migrate.guests.immutable import in_lsattr, with_folders
from migrate.guests.labels import ATTRIBUTE, Unlabelled
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.packages import Packages
from migrate.guests.paths import parent, parts
from migrate.guests.scrub import scrub
from migrate.guests.system import OfSystem, System
from migrate.guests.trim import give_up, trim
from migrate.run import Run

KINDS = {"r": Kind.FILE, "d": Kind.FOLDER, "l": Kind.LINK}
LABELLED = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "jfs", "reiserfs"})
"""File systems that hold SELinux labels."""
FIND_KINDS = {
    "f": "file",
    "d": "dir",
    "l": "lnk_file",
    "p": "pipe",
    "s": "sock_file",
    "c": "chr_file",
    "b": "blk_file",
}
CLOCK_SLACK_S = 60
AT_ONCE = 500
"""As many names as a message surely holds: of 4 MiB at most, and a name may have 255 bytes. Source: guestfs(3), protocol limits."""
FORBIDDEN = "Operation not permitted"
MOST_ASKED = 500
"""Paths on one command line."""
FALLOCATES = frozenset({"ext4", "xfs", "btrfs"})


def _kind(mode: int) -> Kind:
    return {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}.get(
        stat.S_IFMT(mode), Kind.OTHER
    )


def _told(status: Mapping[str, int]) -> Status:
    """Return what lstat(2) says in the appliance."""
    kind, mark = _kind(status["st_mode"]), f"{status['st_ctime_sec']}.{status['st_ctime_nsec']:09}"
    if kind in (Kind.LINK, Kind.OTHER):
        return Status(kind, 0, 0, 0, 0, mark)
    size = status["st_size"] if kind is Kind.FILE else 0
    return Status(kind, stat.S_IMODE(status["st_mode"]), status["st_uid"], status["st_gid"], size, mark)


def _is_utf8(name: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in name)


class ApplianceGuest(OfSystem):
    """A Guest in a launched appliance. What a folder holds is remembered, since most questions are about the same few folders."""

    def __init__(self, run: Run, call: Calls, mounted: Mounted, offers: Offers = NO_OFFERS) -> None:
        """`mounted` is what `mount_guest` did with the same handle."""
        self._run = run
        self._call = call
        self._mounted = mounted
        self._folders: dict[str, dict[str, Kind]] = {}
        self._system = System(self, run)
        self._packages = Packages(run, self, self._system, offers)
        self._layout: Layout | None = None
        self._empty_swap: set[str] = set()
        """Swap files that were made here, of blocks that were trimmed before and never written."""
        self._opened = time.monotonic()

    @property
    def layout(self) -> Layout:
        if self._layout is None:
            self._layout = self._with_free(self._mounted.layout)
        return self._layout

    def kind(self, path: str) -> Kind:
        kind = Kind.FOLDER
        at = "/"
        for name in parts(path):
            kind = self._listed(at).get(name, Kind.MISSING) if kind is Kind.FOLDER else Kind.MISSING
            at = f"{at.rstrip('/')}/{name}"
        return kind

    def load(self, path: str) -> Entry:
        kind = self.kind(path)
        if kind is Kind.LINK:
            return Link(self._call.readlink(path))
        if kind in (Kind.MISSING, Kind.OTHER):
            raise GuestError(f"{path} in the guest cannot be read: it is {kind.value}")
        status = self._call.lstatns(path)
        mode, uid, gid = stat.S_IMODE(status["st_mode"]), status["st_uid"], status["st_gid"]
        if kind is Kind.FOLDER:
            return Folder(mode, uid, gid)
        return File(self._content(path, status["st_size"]), mode, uid, gid)

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(sorted(self._listed(path))) if self.kind(path) is Kind.FOLDER else ()

    def statuses(self) -> Mapping[str, Status]:
        """Two questions for each folder: 4,000 folders take half a minute without KVM."""
        found: dict[str, Status] = {}
        todo = ["/"]
        while todo:
            folder = todo.pop()
            self._run.check()
            names = sorted(name for name in self._listed(folder) if _is_utf8(name))
            for first in range(0, len(names), AT_ONCE):
                some = names[first : first + AT_ONCE]
                for name, status in zip(some, self._call.lstatnslist(folder, some), strict=True):
                    path = f"{folder.rstrip('/')}/{name}"
                    found[path] = _told(status)
                    if found[path].kind is Kind.FOLDER:
                        todo.append(path)
        return found

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        """All in one message: 0.9 s for 700 files, which would be 3 s one by one."""
        if self.kind(path) is not Kind.FOLDER:
            return {}
        found = {}
        with temporary_file(self._run) as archive:
            self._call.tar_out(path, str(archive))
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile() and member.name.endswith(suffix) and (content := tar.extractfile(member)):
                        text = content.read(MOST_BYTES).decode("utf-8", "surrogateescape")
                        found[member.name.removeprefix("./")] = text
        return found

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """The guest's own lsattr is asked, once: the appliance's answers one path in 0.2 s."""
        asked = sorted(path for path in paths if _is_utf8(path) and self.kind(path) in (Kind.FILE, Kind.FOLDER))
        found: set[str] = set()
        for first in range(0, len(asked), MOST_ASKED):
            with suppress(GuestError):  # no lsattr in the guest: it is told beforehand at most
                argv = ["lsattr", "-d", "--", *asked[first : first + MOST_ASKED]]
                found |= in_lsattr(self._call.command(["env", "-i", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", *argv]))
        return frozenset(found)

    @contextmanager
    def loosened(self, paths: Collection[str]) -> Iterator[None]:
        """The paths and the folders that they are in can be changed while the block lasts; what is left of them is as it was then."""
        held = {}
        for path in with_folders(paths):
            if _is_utf8(path) and self.kind(path) in (Kind.FILE, Kind.FOLDER):
                with suppress(GuestError):  # a file system that has no such attributes
                    letters = "".join(sorted(set(self._call.get_e2attrs(path)) & {"i", "a"}))
                    if letters:
                        held[path] = letters
        for path, letters in held.items():
            self._call.set_e2attrs(path, letters, clear=True)
        yield
        self._folders.clear()
        for path, letters in held.items():
            if self.kind(path) in (Kind.FILE, Kind.FOLDER):
                self._call.set_e2attrs(path, letters)

    def store(self, path: str, entry: Entry | None) -> None:
        try:
            self._store(path, entry)
        except GuestError as error:
            if FORBIDDEN not in error.message:
                raise
            self._forget(path)
            with self.loosened([path]):
                self._store(path, entry)

    def _store(self, path: str, entry: Entry | None) -> None:
        kind = self.kind(path)
        if path == "/":
            raise GuestError("the root folder of the guest stays as it is")
        if kind is Kind.OTHER:
            raise GuestError(f"{path} in the guest is a device, socket or pipe, and stays as it is")
        if kind is Kind.MISSING and entry is None:
            return
        if self.kind(parent(path)) is not Kind.FOLDER:
            raise GuestError(f"{path} in the guest has no folder to be in")
        if kind is Kind.FOLDER and not isinstance(entry, Folder):
            if self.names(path):
                raise GuestError(f"{path} in the guest is a folder that is not empty")
            self._call.rmdir(path)
        elif kind is Kind.LINK or (kind is Kind.FILE and not isinstance(entry, File)):
            scrub(self._call, [path])
            self._call.rm(path)
        match entry:
            case File():
                self._write(path, entry.content)
            case Folder() if kind is not Kind.FOLDER:
                self._call.mkdir(path)
            case Link(target):
                self._call.ln_s(target, path)
        if isinstance(entry, File | Folder):
            self._call.chown(entry.uid, entry.gid, path)
            self._call.chmod(entry.mode, path)  # after the owner: chown(2) takes setuid bits away
        self._forget(path)

    def remove(self, path: str, *, scrubbed: bool = False) -> None:
        """`scrubbed` where its content was overwritten already."""
        try:
            self._remove(path, scrubbed)
        except GuestError as error:
            if FORBIDDEN not in error.message:
                raise
            with self.loosened([path]):
                if self.kind(path) is Kind.FOLDER:
                    self.execute(["chattr", "-R", "-f", "-i", "-a", "--", path], env=programs.ENVIRONMENT)
                self._remove(path, scrubbed=False)  # what could not be removed could not be overwritten either

    def _remove(self, path: str, scrubbed: bool) -> None:
        match self.kind(path):
            case Kind.MISSING:
                return
            case Kind.FOLDER if path != "/":
                if not scrubbed:
                    scrub(self._call, [path])
                self._call.rm_rf(path)
                self._folders = {at: kinds for at, kinds in self._folders.items() if not at.startswith(f"{path}/")}
            case Kind.FOLDER:
                raise GuestError("the root folder of the guest stays as it is")
            case _:
                if not scrubbed:
                    scrub(self._call, [path])
                self._call.rm(path)
        self._forget(path)

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        return self._packages.plan(install, remove, installed)

    def change_packages(self, change: PackageChange) -> None:
        files = self._packages.fetch(change)
        with self._uploaded([files[package.name] for package in change.install]) as paths:
            programs.change_packages(self, change, paths)
        self._forget_all()

    def rebuild(self, what: Rebuild) -> None:
        rebuilds.rebuild(self._run, self, what)
        self._forget_all()

    def unlabelled(self) -> tuple[Unlabelled, ...]:
        return tuple(
            Unlabelled(kind, path)
            for folder, names in self._written_since_opened().items()
            for path, kind in self._without_label(folder, names)
        )

    def label(self, labels: Mapping[str, str]) -> None:
        for path, label in labels.items():
            self._call.lsetxattr(ATTRIBUTE, label, len(label), path)

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest in the appliance, where there is no network. What it wrote is seen afterwards."""
        words = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv]
        try:
            said: str = self._call.command(words)
        finally:
            self._forget_all()
        return said

    def change_layout(self, change: LayoutChange) -> None:
        match change:
            case DropPartition(disk, partition):
                self._drop(disk, partition)
            case MakeSwapFile(path, size):
                self._make_swap_file(path, size)

    def trim(self) -> None:
        """Clusters that no file uses read as zeros: they are neither copied nor stored."""
        trim(self._call, self._mounted.mountpoints)

    def give_up_unused(self) -> None:
        """So does what lies in swap space and in free room of volume groups. For the end: nothing is asked of the guest afterwards."""
        give_up(
            self._call,
            self._mounted.layout,
            self._mounted.mountpoints,
            lambda argv: self.execute(argv, env=programs.ENVIRONMENT),
            self._empty_swap,
        )

    @property
    def mountpoints(self) -> tuple[str, ...]:
        return self._mounted.mountpoints

    # Files

    def _listed(self, folder: str) -> dict[str, Kind]:
        if folder not in self._folders:
            try:
                entries = {entry["name"]: entry["ftyp"] for entry in self._call.readdir(folder)}
            except NotUtf8:
                entries = dict.fromkeys(self._odd_names(folder), "u")
            kinds = {name: KINDS.get(kind, Kind.OTHER) for name, kind in entries.items() if name not in (".", "..")}
            # Some file systems do not keep the kind in the folder: "u" then. Source: readdir(3), d_type.
            unknown = [name for name, kind in entries.items() if kind == "u" and _is_utf8(name)]
            if unknown:
                status = self._call.lstatnslist(folder, unknown)
                kinds |= {name: _kind(each["st_mode"]) for name, each in zip(unknown, status, strict=True)}
            self._folders[folder] = kinds
        return self._folders[folder]

    def _odd_names(self, folder: str) -> list[str]:
        """Names that are not UTF-8 are seen, and are of Kind.OTHER: libguestfs's Python binding cannot ask about them."""
        with temporary_file(self._run) as listing:
            self._call.ls0(folder, str(listing))
            return [name.decode("utf-8", "surrogateescape") for name in listing.read_bytes().split(b"\0") if name]

    def _content(self, path: str, size: int) -> bytes:
        if size > MOST_BYTES:
            raise GuestError(f"{path} in the guest is {size:,} bytes large, and at most {MOST_BYTES:,} are read")
        if size <= SMALL:
            return bytes(self._call.pread(path, SMALL, 0))
        with temporary_file(self._run) as copy:
            self._call.download(path, str(copy))
            return copy.read_bytes()

    def _write(self, path: str, content: bytes) -> None:
        """In place, so that attributes and other names of the file stay."""
        if len(content) <= SMALL:
            self._call.write(path, content)
            return
        with temporary_file(self._run, content) as copy:
            self._call.upload(str(copy), path)

    def _forget(self, path: str) -> None:
        self._folders.pop(path, None)
        self._folders.pop(parent(path), None)
        self._system.changed(path)

    def _forget_all(self) -> None:
        self._folders.clear()
        self._system.changed()

    @contextmanager
    def _uploaded(self, files: Sequence[Path]) -> Iterator[list[str]]:
        """Package files lie in a folder of the guest while the block lasts."""
        if not files:
            yield []
            return
        folder = self._call.mkdtemp("/var/tmp/packages-XXXXXX")  # noqa: S108  (in the guest, by mkdtemp)
        try:
            with temporary_file(self._run) as archive:
                with tarfile.open(archive, "w") as tar:
                    for file in files:
                        tar.add(file, file.name)
                self._call.tar_in(str(archive), folder)
            yield [f"{folder}/{file.name}" for file in files]
        finally:
            self._call.rm_rf(folder)
            self._forget_all()

    # SELinux

    def _written_since_opened(self) -> dict[str, list[tuple[str, str]]]:
        """Return names and find's letters for their kinds, by folder. A file's ctime is set by the kernel alone: inode(7)."""
        spent = time.monotonic() - self._opened
        folder = self._call.mkdtemp("/var/tmp/written-XXXXXX")  # noqa: S108  (in the guest, by mkdtemp)
        try:
            # The appliance's clock tells, not ours; emulated, it may only be late.
            since = self._call.lstatns(folder)["st_ctime_sec"] - int(spent) - CLOCK_SLACK_S
            kept = {fs.mountpoint for fs in self.layout.filesystems if fs.type in LABELLED}
            places = [place for place in self._mounted.mountpoints if place in kept]
            argv = ["find", *places, "-xdev", "-newerct", f"@{since}", "-fprintf", f"{folder}/list", r"%y%p\0"]
            self.execute(argv, env=programs.ENVIRONMENT)
            entry = self.load(f"{folder}/list")
        finally:
            self._call.rm_rf(folder)
            self._forget_all()
        found: dict[str, list[tuple[str, str]]] = {}
        for each in entry.text.split("\0") if isinstance(entry, File) else ():
            if each[1:] not in places and not each[1:].startswith(folder) and _is_utf8(each):
                found.setdefault(parent(each[1:]), []).append((each[1:].rpartition("/")[2], each[:1]))
        return found

    def _without_label(self, folder: str, names: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """One message for each folder: it lists of each file how many attributes there are, then those. Source: guestfs(3), lxattrlist."""
        attributes = iter(self._call.lxattrlist(folder, [name for name, _ in names]))
        for name, letter in names:
            count = int(bytes(next(attributes)["attrval"]).rstrip(b"\0") or b"0")
            own = {next(attributes)["attrname"] for _ in range(count)}
            if ATTRIBUTE not in own and letter in FIND_KINDS:
                yield f"{folder.rstrip('/')}/{name}", FIND_KINDS[letter]

    # Disks

    def _with_free(self, layout: Layout) -> Layout:
        free = {}
        for mountpoint in self._mounted.mountpoints:
            said = self._call.statvfs(mountpoint)
            free[mountpoint] = said["bavail"] * said["frsize"]
        found = tuple(replace(fs, free=free.get(fs.mountpoint or "")) for fs in layout.filesystems)
        return replace(layout, filesystems=found)

    def _drop(self, disk: int, partition: int) -> None:
        device = disk_device(disk)
        found = next((fs for fs in self.layout.filesystems if (fs.disk, fs.partition) == (disk, partition)), None)
        if found is not None and found.mountpoint in self._mounted.mountpoints:
            raise GuestError(f"partition {partition} of disk {disk} is in use as {found.mountpoint}")
        with suppress(GuestError):  # its content is given up; where it cannot be discarded it is only copied in vain
            self._call.blkdiscard(f"{device}{partition}")
        self._call.part_del(device, partition)
        self._drop_empty_extended(device)
        kept = tuple(fs for fs in self._mounted.layout.filesystems if (fs.disk, fs.partition) != (disk, partition))
        self._mounted.layout = replace(self._mounted.layout, filesystems=kept)
        self._layout = None

    def _drop_empty_extended(self, device: str) -> None:
        """An extended partition that holds nothing any more would stand in the way of the root as its swap did."""
        # A question about the table takes half a second under emulation, a read of it some milliseconds.
        if self._mounted.layout.table != "dos" or not has_extended(bytes(self._call.pread_device(device, SECTOR, 0))):
            return
        numbers = [part["part_num"] for part in self._call.part_list(device)]
        if any(number > 4 for number in numbers):
            return
        for number in numbers:
            if self._call.part_get_mbr_id(device, number) in (0x05, 0x0F, 0x85):
                self._call.part_del(device, number)

    def _make_swap_file(self, path: str, size: int) -> None:
        self.store(path, File(b"", 0o600))
        # Blocks that were used before would be copied with it; trimmed first, they read as zeros.
        self.trim()
        if self.layout.root_filesystem.type in FALLOCATES:
            if self.layout.root_filesystem.type == "btrfs":  # no copy-on-write: btrfs(5), "SWAPFILE SUPPORT"
                self.execute(["chattr", "+C", path], env=programs.ENVIRONMENT)
            self._call.fallocate64(path, size)
            self._empty_swap.add(path)
        else:
            self._call.fill(0, size, path)
        self._call.chmod(0o600, path)
        self._call.mkswap_file(path)
        self._forget(path)
        self._layout = None
