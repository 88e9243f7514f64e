"""A look at a guest without an appliance, a kernel or FUSE: its file systems are read by Dissect, in a process of ours that is shut in.

Nothing is run and nothing can be: what only a program of the guest could tell is refused, not guessed. sfdisk and blkid look at an excerpt of the disk,
as they look at the whole in the overlay room. Where the guest is on something that is not read here, `Unsuitable` says what.
"""

import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

from migrate.blocks import Disk
from migrate.errors import GuestError, UsageError
from migrate.guest import (
    Entry,
    Filesystem,
    Folder,
    Kind,
    Layout,
    LayoutChange,
    Package,
    PackageChange,
    Rebuild,
    Status,
)
from migrate.guests import extfs
from migrate.guests.agent import AgentFiles
from migrate.guests.beside import NOTHING, Beside, refuse_elsewhere
from migrate.guests.cell import Unsuitable
from migrate.guests.disks import (
    EXT,
    FstabLine,
    Table,
    filesystem,
    find_filesystem,
    fstab_lines,
    is_root,
    probed,
    read_filesystems,
    read_table,
)
from migrate.guests.excerpt import Excerpt, excerpt
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.lvm import Spread, spread
from migrate.guests.packages import Packages
from migrate.guests.paths import parts
from migrate.guests.refusals import Found, snapshot_root, unwritable
from migrate.guests.roots import chosen_root, fstab_of, is_needed, layout_of
from migrate.guests.system import OfSystem, System
from migrate.guests.unsaved import UnsavedFiles
from migrate.run import Limits, Note, Run
from migrate.source import Firmware

LIBRARIES = ("dissect.btrfs", "dissect.extfs", "dissect.fat", "dissect.xfs")
INSTALL = "pip install 'magalu-migrate[preview]' (Dissect, AGPL-3.0)"

READS = EXT | {"xfs", "btrfs", "vfat"}
SUBVOLUMES = (None, "subvol=@", "subvol=root", "subvol=@rootfs", "subvol=@/root")
"""Where a btrfs keeps the root; its snapshots look like roots too. mkfs.btrfs(8), snapper(8)."""
LIMITS = Limits(address_space=3 << 30, cpu_seconds=3600)

NO_PROGRAMS = "the guest is only looked at here, without an appliance or an overlay room: none of its programs can run"
ELSEWHERE = "Leave --room out, or name appliance or overlay."


def is_installed() -> bool:
    """Whether the libraries of the extra `preview` are there. Nothing is imported."""
    return find_spec("dissect") is not None and all(find_spec(name) is not None for name in LIBRARIES)


def check_installed() -> None:
    """Raise UsageError where they are not."""
    if not is_installed():
        raise UsageError(
            "--room dissect: Dissect, which reads guests without an appliance, is not installed", hint=INSTALL
        )


@dataclass(frozen=True, slots=True)
class Opened:
    """A file system that the reader opened, and what it says of it; `stale` is why it may be older than the guest left it."""

    files: "ReaderFiles"
    free: int | None
    stale: str | None
    read_only: bool


class ReaderFiles(AgentFiles):
    """The files of one file system, asked of the reader."""

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        return frozenset(self._ask("immutable", sorted(paths))[0])

    def named(self, name: str) -> "ReaderFiles":
        other = ReaderFiles(self._run, self._connection, name)
        other._lock = self._lock
        return other

    def open(self, runs: Sequence[tuple[int, int]], kind: str, subvolume: str | None) -> Opened:
        """Open what lies in these runs of the disk. Raise GuestError where it cannot be read."""
        said: dict[str, Any] = self._ask("open", list(runs), kind, subvolume)[0]
        return Opened(self, said["free"], said["stale"], bool(said["read_only"]))


@dataclass(frozen=True, slots=True)
class Mount:
    mountpoint: str
    files: ReaderFiles


class MountedFiles:
    """The files of a guest whose file systems are put together as its fstab says. What a folder holds is asked once."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._mounts = sorted(mounts, key=lambda mount: -len(mount.mountpoint))
        self._folders: dict[str, Mapping[str, Kind]] = {}

    def kind(self, path: str) -> Kind:
        names = parts(path)
        if not names:
            return Kind.FOLDER
        return self._kinds("/" + "/".join(names[:-1])).get(names[-1], Kind.MISSING)

    def load(self, path: str) -> Entry:
        mount, inner = self._place(path)
        return mount.files.load(inner)

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(self._kinds(path))

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        mount, inner = self._place(path)
        return mount.files.texts(inner, suffix)

    def statuses(self) -> Mapping[str, Status]:
        found: dict[str, Status] = {}
        for mount in reversed(self._mounts):
            above = mount.mountpoint.rstrip("/")
            if above:  # what lies below a mount point is not seen
                found = {path: each for path, each in found.items() if not path.startswith(f"{above}/")}
                root = mount.files.load("/")
                if isinstance(root, Folder):
                    found[above] = Status(Kind.FOLDER, root.mode, root.uid, root.gid, 0, "mounted")
            found |= {above + path: status for path, status in mount.files.statuses().items()}
        return found

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        found: set[str] = set()
        for mount in self._mounts:
            own = {self._place(path)[1]: path for path in paths if self._place(path)[0] is mount}
            found |= {own[path] for path in mount.files.immutable(own)} if own else set()
        return frozenset(found)

    def _kinds(self, path: str) -> Mapping[str, Kind]:
        if path not in self._folders:
            mount, inner = self._place(path)
            self._folders[path] = mount.files.kinds(inner)
        return self._folders[path]

    def _place(self, path: str) -> tuple[Mount, str]:
        for mount in self._mounts:
            above = mount.mountpoint.rstrip("/")
            if path == mount.mountpoint or path.startswith(f"{above}/"):
                return mount, path[len(above) :] or "/"
        raise GuestError(f"{path!r} is not an absolute, plain path in the guest")


class DissectGuest(OfSystem, UnsavedFiles):
    """A Guest that can only be looked at. What is stored in it is kept in memory, and its programs do not run."""

    def __init__(self, run: Run, layout: Layout, files: MountedFiles, offers: Offers = NO_OFFERS) -> None:
        super().__init__(files)
        self._layout = layout
        self.files = files
        """As they are on the disk, whatever was stored."""
        self._system = System(self, run)
        self._packages = Packages(run, self, self._system, offers)

    @property
    def layout(self) -> Layout:
        return self._layout

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """As it is on the disk, whatever was stored."""
        return self.files.immutable(paths)

    def store(self, path: str, entry: Entry | None) -> None:
        super().store(path, entry)
        self._system.changed(path)

    def remove(self, path: str) -> None:
        super().remove(path)
        self._system.changed(path)

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        return self._packages.plan(install, remove, installed)

    def change_packages(self, change: PackageChange) -> None:
        if change.install or change.remove:
            raise GuestError(f"packages cannot be changed: {NO_PROGRAMS}", hint=ELSEWHERE)

    def change_layout(self, change: LayoutChange) -> None:
        raise GuestError(f"the disk's layout cannot be changed: {NO_PROGRAMS}", hint=ELSEWHERE)

    def rebuild(self, what: Rebuild) -> None:
        raise GuestError(f"its {what.value} cannot be built anew: {NO_PROGRAMS}", hint=ELSEWHERE)


@contextmanager
def open_dissected(
    run: Run,
    uri: str,
    hint: Firmware | None,
    offers: Offers = NO_OFFERS,
    root: str | None = None,
    beside: Beside = NOTHING,
    *,
    asked: bool = True,
) -> Iterator[DissectGuest]:
    """Open the guest on a disk that NBD serves, to look at it.

    `root` names its root file system, as fstab(5) would, where there are several; `beside` is what its data disks hold. `asked` says whether the user
    asked for Dissect: then btrfs is read, too, and a file system whose newest changes are in a log that is not replayed here; a Note tells of that.
    Raise UsageError without the libraries, Unsuitable where it cannot be read here, NotMigratable where there is no guest.
    """
    check_installed()
    with ExitStack() as stack:
        disk = stack.enter_context(Disk(uri))
        reader = stack.enter_context(_reader(run, uri))
        places = _Places(run, disk)
        found = Found([places.table, *beside.tables], beside.with_boot_disk(places.filesystems), places.read)
        opening = _Opening(run, reader, places, asked)
        files = opening.each(found.on_boot_disk.filesystems)
        found = replace(found, failures=opening.failures)
        chosen = chosen_root(files, found, root)
        layout = layout_of(files, places.table, found.filesystems, chosen, hint)
        refuse_elsewhere(layout)
        mounts = opening.mounted(layout, files[chosen.device])
        if chosen.type == "btrfs" and opening.opened[chosen.device].read_only:
            raise snapshot_root(chosen.device, opening.subvolumes[chosen.device])
        told = [opening.with_free(fs) for fs in layout.filesystems]
        opening.tell_what_is_stale()
        yield DissectGuest(run, replace(layout, filesystems=tuple(told)), MountedFiles(mounts), offers)


@contextmanager
def _reader(run: Run, uri: str) -> Iterator[ReaderFiles]:
    """Start the process that reads; leaving ends it."""
    ours, its = socket.socketpair()
    with ours, its:
        argv = [sys.executable, "-m", "migrate.guests.dissect_reader", uri, str(its.fileno())]
        with run.daemon(argv, ready=lambda: True, pass_fds=(its.fileno(),), limits=LIMITS):
            its.close()
            yield ReaderFiles(run, ours, "")


class _Places:
    """What is on the disk, and in which runs of it each device lies, in bytes."""

    def __init__(self, run: Run, disk: Disk) -> None:
        self._run = run
        self._disk = disk
        self.runs: dict[str, tuple[tuple[int, int], ...]] = {}
        with excerpt(run, self._read, disk.size) as shown:
            shown.show_boot_records()
            self.table: Table = read_table(shown, shown.path, 0)
            self.filesystems = tuple(self._on_partitions(shown))
        self.filesystems += tuple(self._on_volumes())

    def read(self, device: str, offset: int, count: int) -> bytes:
        """Read a device; less is returned at its end."""
        content = b""
        start = 0
        for place, length in self.runs[device]:
            skipped = max(0, offset + len(content) - start)
            step = min(length - skipped, count - len(content))
            if step > 0:
                content += self._read(place + skipped, step)
            start += length
        return content

    def _read(self, offset: int, count: int) -> bytes:
        count = min(count, self._disk.size - offset)
        return bytes(self._disk.read(offset, count)) if count > 0 else b""

    def _on_partitions(self, shown: Excerpt) -> Iterator[Filesystem]:
        for part in self.table.partitions:
            shown.show(part.start, part.size)
        for fs in read_filesystems(shown, shown.path, self.table):
            self.runs[fs.device] = ((fs.start or 0, fs.size),)
            yield fs

    def _on_volumes(self) -> Iterator[Filesystem]:
        physical = [fs.device for fs in self.filesystems if fs.type == "LVM2_member"]
        for volume in spread([self._reader_of(device) for device in physical]):
            self.runs[volume.device] = tuple(self._placed(volume, physical))
            if volume.size > self._disk.size:  # the guest's word only: no file of such a size is made
                continue
            with excerpt(self._run, self._reader_of(volume.device), volume.size) as shown:
                said = probed(shown, shown.path, 0, volume.size)
            if "TYPE" in said:
                yield filesystem(said, volume.device, volume.size, None, None, None, None)

    def _reader_of(self, device: str) -> Callable[[int, int], bytes]:
        return lambda offset, count: self.read(device, offset, count)

    def _placed(self, volume: Spread, physical: Sequence[str]) -> Iterator[tuple[int, int]]:
        for piece in volume.pieces:
            ((start, size),) = self.runs[physical[piece.physical]]
            if piece.offset + piece.size > size:
                raise GuestError(f"the logical volume {volume.device} lies beyond its partition")
            yield start + piece.offset, piece.size


class _Opening:
    """The file systems of a disk, opened one by one; `failures` say by device why one could not be."""

    def __init__(self, run: Run, reader: ReaderFiles, places: _Places, asked: bool) -> None:
        self._run = run
        self._reader = reader
        self._places = places
        self._asked = asked
        self.opened: dict[str, Opened] = {}
        self.subvolumes: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self._mounted: dict[str, Opened] = {}

    def each(self, filesystems: Sequence[Filesystem]) -> dict[str, ReaderFiles]:
        """Open all that is read here; return the files of each device."""
        for fs in filesystems:
            if fs.type in READS:
                self._open(fs)
        return {device: opened.files for device, opened in self.opened.items()}

    def _open(self, fs: Filesystem) -> None:
        if fs.type == "btrfs" and not self._asked:
            raise Unsuitable(f"{fs.device} is btrfs, which it reads where --room dissect asks for it")
        if fs.type in EXT:
            state = extfs.state(self._places.read(fs.device, extfs.SUPERBLOCK, 256))
            if state.read_only:
                self.failures[fs.device] = extfs.READ_ONLY
                return
            if state.has_errors:
                raise Unsuitable(f"{fs.device} is marked as damaged, and only fsck can say whether it can be mended")
        for subvolume in SUBVOLUMES if fs.type == "btrfs" else (None,):
            try:
                opened = self._as(fs, subvolume)
            except GuestError as error:
                if subvolume is None:
                    raise Unsuitable(f"{fs.device} ({fs.type}) cannot be read by Dissect: {error.message}") from error
                continue
            if subvolume is None or is_root(opened.files.kind):
                self.opened[fs.device] = opened
                self.subvolumes[fs.device] = "the default" if subvolume is None else subvolume.removeprefix("subvol=")
            if is_root(opened.files.kind):
                return

    def _as(self, fs: Filesystem, subvolume: str | None) -> Opened:
        name = fs.device if subvolume is None else f"{fs.device} {subvolume}"
        return self._reader.named(name).open(self._places.runs[fs.device], fs.type, subvolume)

    def mounted(self, layout: Layout, root: ReaderFiles) -> list[Mount]:
        """Return the root and what its fstab mounts. Raise NotMigratable where something that is needed is damaged; Unsuitable."""
        mounts = [Mount("/", root)]
        self._mounted = {layout.root: self.opened[layout.root]}
        for line in sorted(fstab_lines(fstab_of(root)), key=lambda line: line.mountpoint):
            fs = find_filesystem(layout.filesystems, line.spec)
            if fs is None or not fs.on_boot_disk or not line.mountpoint.startswith("/") or line.mountpoint == "/":
                continue
            if {"bind", "noauto"} & set(line.options) or line.type == "swap":
                continue
            if MountedFiles(mounts).kind(line.mountpoint) is not Kind.FOLDER:
                raise Unsuitable(f"{line.mountpoint}, where its fstab mounts {fs.device}, is no folder")
            opened = self._opened_for(fs, line)
            if opened is not None:
                self._mounted[fs.device] = opened
                mounts.append(Mount(line.mountpoint, opened.files))
            elif is_needed(line.mountpoint) and fs.device in self.failures:
                raise unwritable(fs.device, line.mountpoint, self.failures[fs.device])
            elif is_needed(line.mountpoint):
                raise Unsuitable(f"{line.mountpoint} of the guest is on {fs.device}, which is {fs.type}")
        return mounts

    def _opened_for(self, fs: Filesystem, line: FstabLine) -> Opened | None:
        named = [option for option in line.options if option.startswith(("subvol=", "subvolid="))]
        if fs.type != "btrfs" or fs.device not in self.opened:
            return self.opened.get(fs.device)
        try:
            return self._as(fs, named[0] if named else None)
        except GuestError as error:
            raise Unsuitable(f"{line.mountpoint} of the guest cannot be read by Dissect: {error.message}") from error

    def with_free(self, fs: Filesystem) -> Filesystem:
        opened = self._mounted.get(fs.device)
        return fs if opened is None else replace(fs, free=opened.free)

    def tell_what_is_stale(self) -> None:
        """Raise Unsuitable where what was read may be older than the guest left it, unless that will do."""
        for device, opened in self._mounted.items():
            if opened.stale is not None and not self._asked:
                raise Unsuitable(f"{device} may hold older files than the guest left: {opened.stale}")
            if opened.stale is not None:
                text = f"{device} is looked at as it is on the disk; {opened.stale}: what a running VM wrote last may be missing here."
                self._run.tell(Note(text, "warning"))
