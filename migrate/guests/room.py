"""The overlay room: the guest's disk read through FUSE, its changes kept in a folder beside it, its own programs run in a sandbox over both.

No appliance is needed to look, and none to try: the source is only read. What was changed is in the upper folders, and is carried to the disk by
migrate.guests.carry. Where the guest is on more than plain ext2/3/4 partitions, `Unsuitable` says why, and the appliance is used.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from migrate.errors import GuestError, ToolFailed
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Filesystem,
    Kind,
    Layout,
    LayoutChange,
    MakeSwapFile,
    Os,
    Package,
    PackageChange,
    Rebuild,
    Status,
)
from migrate.guests import extfs, programs, rebuilds
from migrate.guests.agent import AgentFiles, open_agent
from migrate.guests.beside import NOTHING, Beside, refuse_elsewhere
from migrate.guests.cell import READING, ROOM, Cell, Unsuitable, open_cell
from migrate.guests.disks import (
    EXT,
    Table,
    filesystem,
    mapped_name,
    probed,
    read_filesystems,
    read_table,
)
from migrate.guests.grub_probe import grub_probe
from migrate.guests.immutable import in_ext
from migrate.guests.labels import Unlabelled
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.large_folders import LARGE, Folders, kinds_in_ext
from migrate.guests.lvm import volumes
from migrate.guests.packages import Packages
from migrate.guests.paths import parent, parts, resolved
from migrate.guests.refusals import (
    Found,
    Read,
    unwritable,
)
from migrate.guests.roots import chosen_root, is_needed, layout_of
from migrate.guests.system import System
from migrate.run import Limits, Run
from migrate.source import Firmware

MERGED = f"{ROOM}/merged"
PACKAGES = "/tmp/packages"  # noqa: S108  (in the sandbox's own /tmp)

# The lower never changes, so the kernel may keep all that it learnt: a find over /usr takes 2.0 s instead of 3.3 s.
FOR_EVER = "kernel_cache,attr_timeout=86400,entry_timeout=86400,negative_timeout=86400"

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "SETFCAP", "SYS_CHROOT")
"""What a package manager needs. All of them count in the cell only. Source: capabilities(7)."""

MOST_PROCESSES = 2000
MOST_FILE_BYTES = 4 << 30
SECONDS = 1800
WORKING = Limits(address_space=4 << 30, cpu_seconds=SECONDS)


@dataclass(frozen=True, slots=True)
class Layer:
    """A file system of the guest in the room: what is on the disk, what was changed, and where it is mounted."""

    mountpoint: str
    type: str
    lower: str
    upper: str
    image: str = ""
    """What is on the disk as debugfs(8) names it; "" where it does not read it."""


class RoomGuest:
    """A Guest in an open room. Changes of the disk's layout are noted, and made when the guest is carried."""

    def __init__(
        self,
        run: Run,
        cell: Cell,
        agent: AgentFiles,
        layout: Layout,
        layers: Sequence[Layer],
        offers: Offers = NO_OFFERS,
    ) -> None:
        self._run = run
        self._cell = cell
        self._agent = agent
        self.found = layout
        """The layout as it is on the disk, whatever was changed of it in the room."""
        self._layout = layout
        self.layers = tuple(layers)
        self.layout_changes: list[LayoutChange] = []
        self._files = agent.at(MERGED)
        self._folders = Folders()
        self._system = System(self, run)
        self._packages = Packages(run, self, self._system, offers)

    @property
    def os(self) -> Os:
        return self._system.os

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def packages(self) -> Mapping[str, Package]:
        return self._system.installed.packages

    @property
    def cell(self) -> Cell:
        return self._cell

    @property
    def agent(self) -> AgentFiles:
        return self._agent

    def files_of(self, package: str) -> frozenset[str]:
        return self._system.installed.files_of(package)

    def kind(self, path: str) -> Kind:
        if self._folders.is_given_up(path):
            return Kind.MISSING
        names = parts(path)
        if not names:
            return self._files.kind(path)
        folder = parent(path)
        known = self._known(folder)
        if known is not None and names[-1] in known:
            return known[names[-1]]
        return self._files.kind(path) if self._folders.is_large(folder) else Kind.MISSING

    def _known(self, folder: str) -> Mapping[str, Kind] | None:
        """What each name in a folder is. A look asks for 120,000 paths, most of them missing: one question a folder answers them (45 s before).

        None, or without some of its names, for a large folder.
        """
        known = self._folders.kinds(folder)
        if known is None and not self._folders.is_large(folder):
            if len(self._files.names(folder)) >= LARGE:
                self._folders.remember_large(folder)
            else:
                known = self._files.kinds(folder)
                self._folders.remember(folder, known)
        return known

    def load(self, path: str) -> Entry:
        if self._folders.is_given_up(path):
            raise GuestError(f"{path} in the guest cannot be read: it is missing")
        return self._files.load(path)

    def names(self, path: str) -> tuple[str, ...]:
        if self._folders.is_given_up(path):
            return ()
        known = self._known(path)
        listed = self._files.names(path) if known is None or self._folders.is_large(path) else tuple(known)
        names = tuple(name for name in listed if not self._folders.is_given_up(f"{path.rstrip('/')}/{name}"))
        layer = self._layer_of(path)
        if len(names) >= LARGE and layer is not None and layer.image and self._folders.kinds(path) is None:
            within = self._within(layer, path)
            lower = kinds_in_ext(self._cell, layer.image, within)
            known = {**lower, **self._agent.at(layer.upper).kinds(within)}
            self._folders.remember(path, {name: known[name] for name in names if name in known})
        return names

    def statuses(self) -> Mapping[str, Status]:
        found = self._files.statuses()
        if not self.given_up:
            return found
        return {path: status for path, status in found.items() if not self._folders.is_given_up(path)}

    @property
    def given_up(self) -> tuple[str, ...]:
        """Folders that are gone for whoever asks, and are removed when the guest is carried."""
        return self._folders.given_up

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        return self._files.texts(path, suffix)

    def store(self, path: str, entry: Entry | None) -> None:
        for above in self.given_up:
            if path == above or path.startswith(f"{above}/"):  # it comes again: now it must really go
                self._folders.take_back(above)
                self._files.remove(above)
        self._files.store(path, entry)
        self._changed(path)

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """As it is on the disk, whatever was changed in the room."""
        found: set[str] = set()
        for layer in self.layers:
            own = {self._within(layer, path): path for path in paths if self._layer_of(path) is layer}
            if layer.image and own:
                found |= {own[path] for path in in_ext(self._cell, layer.image, own)}
        return frozenset(found)

    def _layer_of(self, path: str) -> Layer | None:
        above = (each for each in self.layers if each.mountpoint == "/" or f"{path}/".startswith(f"{each.mountpoint}/"))
        return max(above, key=lambda layer: len(layer.mountpoint), default=None)

    def _within(self, layer: Layer, path: str) -> str:
        return path.removeprefix(layer.mountpoint.rstrip("/")) or "/"

    def remove(self, path: str) -> None:
        if self.kind(path) is Kind.FOLDER and self._counts(path, LARGE) and not self._holds_mounts(path):
            self._folders.give_up(path)
        elif not self._folders.is_given_up(path):
            self._files.remove(path)
        self._changed(path)

    def _counts(self, path: str, most: int) -> bool:
        """Whether as many files are in a folder and its folders."""
        todo, count = [path], 0
        while todo and count < most:
            folder = todo.pop()
            names = self.names(folder)
            count += len(names)
            if count < most:
                todo += [inner for name in names if self.kind(inner := f"{folder}/{name}") is Kind.FOLDER]
        return count >= most

    def _holds_mounts(self, path: str) -> bool:
        return any(f"{layer.mountpoint}/".startswith(f"{path}/") for layer in self.layers)

    def _changed(self, path: str) -> None:
        self._folders.forget(path)
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
        files = self._packages.fetch(change)
        chosen = [files[package.name] for package in change.install]
        self._cell.tool(["mkdir", "-p", f"{ROOM}/packages"])
        try:
            for file in chosen:
                self._agent.at(f"{ROOM}/packages").store(f"/{file.name}", File(file.read_bytes()))
            programs.change_packages(self, change, [f"{PACKAGES}/{file.name}" for file in chosen])
        finally:
            self._cell.tool(["rm", "-rf", f"{ROOM}/packages"])
            self._folders.forget_all()
            self._system.changed()

    def rebuild(self, what: Rebuild) -> None:
        rebuilds.rebuild(self._run, self, what)

    def unlabelled(self) -> tuple[Unlabelled, ...]:
        return tuple(
            replace(each, path=layer.mountpoint.rstrip("/") + each.path)
            for layer in self._labelled_layers
            for each in self._agent.at(layer.upper).unlabelled()
        )

    def label(self, labels: Mapping[str, str]) -> None:
        left = dict(labels)
        for layer in self._labelled_layers:
            above = layer.mountpoint.rstrip("/")
            own = [path for path in left if path.startswith(f"{above}/")]
            self._agent.at(layer.upper).label({path.removeprefix(above): left.pop(path) for path in own})

    @property
    def _labelled_layers(self) -> tuple[Layer, ...]:
        """The innermost first: /boot/x is in /boot's. vfat holds no labels."""
        return tuple(
            sorted((layer for layer in self.layers if layer.type in EXT), key=lambda each: -len(each.mountpoint))
        )

    def change_layout(self, change: LayoutChange) -> None:
        match change:
            case DropPartition(disk, partition):
                gone = next(
                    (fs for fs in self._layout.filesystems if (fs.disk, fs.partition) == (disk, partition)), None
                )
                if gone is not None and gone.mountpoint in {layer.mountpoint for layer in self.layers}:
                    raise GuestError(f"partition {partition} of disk {disk} is in use as {gone.mountpoint}")
                kept = tuple(fs for fs in self._layout.filesystems if fs is not gone)
                self._layout = replace(self._layout, filesystems=kept)
            case MakeSwapFile(path, _):
                self.store(path, File(b"", 0o600))
        self.layout_changes.append(change)

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest in the sandbox. Nothing that it starts outlives it."""
        try:
            said = self._cell.tool([*self._sandbox(env), *argv], timeout=SECONDS, limits=WORKING)
        except ToolFailed as error:
            raise GuestError(
                f"the guest's {Path(argv[0]).name} ended with {error.status}: {_last(error.stderr)}"
            ) from error
        finally:
            self._folders.forget_all()
            self._system.changed()
        return said.text

    def _sandbox(self, env: Mapping[str, str]) -> list[str]:
        """Its own processes, network (none), devices and /tmp; the guest's merged files as the root. Source: bwrap(1)."""
        words = ["prlimit", f"--nproc={MOST_PROCESSES}", f"--fsize={MOST_FILE_BYTES}", "--core=0", "bwrap"]
        words += [
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--die-with-parent",
            "--new-session",
        ]
        words += ["--cap-drop", "ALL", *(word for name in CAPABILITIES for word in ("--cap-add", f"CAP_{name}"))]
        words += ["--bind", MERGED, "/", "--proc", "/proc", "--dev", "/dev"]
        for path, mode in (("/tmp", "1777"), ("/run", "0755")):  # noqa: S108
            words += ["--perms", mode, "--size", str(1 << 30), "--tmpfs", path]
        words += ["--perms", "1777", "--dir", "/run/lock"]
        words += ["--ro-bind-try", f"{ROOM}/packages", PACKAGES]
        words += self._root_device()
        words += self._stand_ins()
        words.append("--clearenv")
        for name, value in env.items():
            words += ["--setenv", name, value]
        return [*words, "--chdir", "/", "--"]

    def _root_device(self) -> list[str]:
        """grub-mkconfig names the root by UUID only where /dev/disk/by-uuid shows it."""
        nodes = {
            fs.device: fs.device if fs.disk is not None else mapped_name(fs.device) for fs in self._layout.filesystems
        }
        links = {device: node for device, node in nodes.items() if device != node}
        for fs in self._layout.filesystems:
            if re.fullmatch(r"[\w-]+", fs.uuid or ""):
                links.setdefault(f"/dev/disk/by-uuid/{fs.uuid}", nodes[fs.device])
        words = [word for node in nodes.values() for word in ("--dev-bind", "/dev/null", node)]
        return words + [word for link, node in links.items() for word in ("--symlink", node, link)]

    def _stand_ins(self) -> list[str]:
        """What cannot work where the root is an overlay is told what the disk is: grub-probe, and the fsck hook of initramfs-tools."""
        words = []
        checked = sorted({fs.type for fs in self._layout.filesystems if fs.mountpoint in ("/", "/usr")})
        for path, text in (
            ("/usr/sbin/grub-probe", grub_probe(self._layout)),
            # What is added at its end wins: the file is a shell script. initramfs.conf(5).
            ("/etc/initramfs-tools/initramfs.conf", f"\nFSTYPE={','.join(checked)}\n"),
        ):
            at = resolved(self, path)
            if self.kind(at) is Kind.FILE and isinstance(entry := self.load(at), File):
                name = path.rpartition("/")[2]
                made = File((entry.content if name.endswith(".conf") else b"") + text.encode(), entry.mode)
                self._agent.at(f"{ROOM}/tools").store(f"/{name}", made)
                words += ["--ro-bind", f"{ROOM}/tools/{name}", at]
        return words


@contextmanager
def open_room(
    run: Run,
    uri: str,
    hint: Firmware | None,
    offers: Offers = NO_OFFERS,
    root: str | None = None,
    beside: Beside = NOTHING,
) -> Iterator[RoomGuest]:
    """Open the guest on a disk that NBD serves. Leaving forgets all that was not carried.

    `root` names its root file system, as fstab(5) would, where there are several; `beside` is what its data disks hold. Raise Unsuitable; or
    NotMigratable where there is no guest that can be opened.
    """
    with ExitStack() as stack:
        cell = stack.enter_context(open_cell(run))
        agent = stack.enter_context(open_agent(cell, "/"))
        disk = Disk(cell, uri, stack.enter_context(cell.disk(uri, "disk")))
        table = read_table(cell, disk.path, 0)
        placed = list(_placed(disk, table))
        lowers, images, failures = _mounted_ext(stack, disk, placed)
        seen = beside.with_boot_disk(each.fs for each in placed)
        found = Found([table, *beside.tables], seen, disk.reader(placed), failures)
        files = {device: agent.at(at) for device, at in lowers.items()}
        chosen = chosen_root(files, found, root)
        layout = _layout(cell, files, table, found.filesystems, lowers, chosen, hint)
        refuse_elsewhere(layout)
        cell.tool(["mkdir", "-p", MERGED, f"{ROOM}/tools"])
        layers: list[Layer] = []
        for fs in sorted(layout.filesystems, key=lambda fs: fs.mountpoint or ""):
            if fs.mountpoint is None or not fs.mountpoint.startswith("/") or not fs.on_boot_disk:
                continue
            if fs.type == "vfat":
                lowers[fs.device] = _copied_vfat(disk, fs)
            if fs.mountpoint != "/" and agent.at(MERGED).kind(fs.mountpoint) is not Kind.FOLDER:
                raise Unsuitable(f"{fs.mountpoint}, where its fstab mounts {fs.device}, is no folder")
            if fs.device in lowers:
                layers.append(_mount_layer(cell, fs, lowers[fs.device], len(layers), images.get(fs.device, "")))
            elif is_needed(fs.mountpoint) and fs.device in failures:
                raise unwritable(fs.device, fs.mountpoint, failures[fs.device])
            elif is_needed(fs.mountpoint):
                raise Unsuitable(f"{fs.mountpoint} of the guest is on {fs.device}, which is {fs.type}")
        yield RoomGuest(run, cell, agent, layout, layers, offers)


@dataclass(frozen=True, slots=True)
class Disk:
    """The guest's disk in a cell: the file that shows it, and the NBD endpoint behind it."""

    cell: Cell
    uri: str
    path: str

    def reader(self, placed: Sequence["Placed"]) -> Read:
        """Return what reads each of the devices by name."""
        offsets = {each.fs.device: each.offset for each in placed}
        return lambda device, offset, count: self.read(offsets[device] + offset, count)

    def read(self, offset: int, size: int) -> bytes:
        words = [
            "dd",
            f"if={self.path}",
            f"skip={offset}",
            f"count={size}",
            "iflag=skip_bytes,count_bytes",
            "status=none",
        ]
        return self.cell.tool(words, limits=READING).stdout


@dataclass(frozen=True, slots=True)
class Placed:
    """A file system and where it begins on the disk, in bytes; on a logical volume too."""

    fs: Filesystem
    offset: int


def _placed(disk: Disk, table: Table) -> Iterator[Placed]:
    """Yield all that has a superblock, and what is on logical volumes that lie in one piece."""
    for fs in read_filesystems(disk.cell, disk.path, table):
        start = fs.start or 0
        yield Placed(fs, start)
        if fs.type == "LVM2_member":
            for volume in volumes(lambda offset, size, start=start: disk.read(start + offset, size)):  # type: ignore[misc]
                offset = start + volume.offset
                found = probed(disk.cell, disk.path, offset, volume.size)
                if "TYPE" in found:
                    yield Placed(filesystem(found, volume.device, volume.size, None, None, None, None), offset)


class Damaged(Exception):
    """A file system that its own checker does not mend; the text says what it says."""


def _mounted_ext(
    stack: ExitStack, disk: Disk, placed: Sequence[Placed]
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Mount all that is ext2, ext3 or ext4; return where, what debugfs reads, and why not, each by device."""
    lowers, images, failures = {}, {}, {}
    for each in placed:
        if each.fs.type in EXT:
            try:
                lowers[each.fs.device], images[each.fs.device] = _mount_ext(stack, disk, each)
            except Damaged as damage:
                failures[each.fs.device] = str(damage)
    return lowers, images, failures


def _mount_ext(stack: ExitStack, disk: Disk, placed: Placed) -> tuple[str, str]:
    """Mount a file system read-only. A dirty journal (every snapshot of a running VM) is replayed before, into a copy that is forgotten.

    One that the kernel has marked as damaged is checked there, too. Raise Damaged where that does not mend it.
    """
    name = placed.fs.device.removeprefix("/dev/").replace("/", "-")
    path, start = disk.path, placed.offset
    state = extfs.state(disk.read(start + extfs.SUPERBLOCK, 256))
    if state.read_only:
        raise Damaged(extfs.READ_ONLY)
    if state.wants_check:
        # e2fsck forgets an offset when it opens the disk again after the replay: it gets a file of its own.
        path, start = stack.enter_context(disk.cell.disk(disk.uri, f"{name}-alone", (start, placed.fs.size))), 0
        try:
            checked = disk.cell.tool(["e2fsck", "-p", path], limits=READING, ok=(0, 1, UNMENDED))
        except ToolFailed as error:
            raise Unsuitable(f"{placed.fs.device} could not be checked here: {_last(error.stderr)}") from error
        if checked.status == UNMENDED:
            raise Damaged(f"it is damaged, and fsck does not mend it by itself: {_complaint(checked.text)}")
    at = f"{ROOM}/on-{name}"
    options = f"ro,norecovery,offset={start},allow_other,{FOR_EVER}"
    try:
        stack.enter_context(disk.cell.mounted(["fuse2fs", path, at, "-f", "-o", options], at))
    except ToolFailed as error:  # a feature that only the kernel's ext4 knows
        raise Unsuitable(f"{placed.fs.device} cannot be read by fuse2fs: {_last(error.stderr)}") from error
    return at, f"{path}?offset={start}"


UNMENDED = 4
"""e2fsck's status where errors are left: e2fsck(8), EXIT CODE."""


def _complaint(text: str) -> str:
    """Return what e2fsck stumbled over, without the file's name, which is ours."""
    lines = [line.partition(": ")[2].strip() or line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(line for line in lines if "UNEXPECTED INCONSISTENCY" not in line and "(i.e.," not in line)[-300:]


def _layout(
    cell: Cell,
    files: Mapping[str, AgentFiles],
    table: Table,
    filesystems: Sequence[Filesystem],
    lowers: Mapping[str, str],
    root: Filesystem,
    hint: Firmware | None,
) -> Layout:
    layout = layout_of(files, table, filesystems, root, hint)
    free = {device: _free(cell, at) for device, at in lowers.items()}
    found = tuple(replace(fs, free=free.get(fs.device) if fs.mountpoint else None) for fs in layout.filesystems)
    return replace(layout, filesystems=found)


def _free(cell: Cell, at: str) -> int:
    blocks, size = cell.tool(["stat", "--file-system", "--format=%a %S", at]).text.split()
    return int(blocks) * int(size)


def _copied_vfat(disk: Disk, fs: Filesystem) -> str:
    """Copy an EFI system partition out, some megabytes: no FUSE program reads vfat."""
    cell = disk.cell
    at = f"{ROOM}/on-{fs.device.rpartition('/')[2]}"
    cell.tool(["mkdir", "-p", at])
    argv = ["mcopy", "-s", "-p", "-n", "-i", f"{disk.path}@@{fs.start or 0}", "::*", at]
    try:
        cell.tool(argv, limits=READING, timeout=300, env={"MTOOLS_SKIP_CHECK": "1"})
    except ToolFailed as error:
        if "not found" not in error.stderr:  # an empty one
            raise Unsuitable(f"{fs.device} cannot be read by mtools: {_last(error.stderr)}") from error
    cell.tool(["chmod", "-R", "u=rwX,go=rX", at])
    return at


def _mount_layer(cell: Cell, fs: Filesystem, lower: str, number: int, image: str) -> Layer:
    """Lay an overlay over a file system, at its place in the merged tree."""
    assert fs.mountpoint is not None  # noqa: S101  (the caller's choice)
    upper = f"{ROOM}/upper{number}"
    work = f"{ROOM}/work{number}"
    at = MERGED + fs.mountpoint.rstrip("/")
    cell.tool(["mkdir", "-p", upper, work])
    # `userxattr`: in a user namespace overlayfs keeps its marks in user.overlay.*. overlayfs.rst, "User xattr".
    options = f"lowerdir={lower},upperdir={upper},workdir={work},userxattr"
    try:
        cell.tool(["chmod", "--reference", lower, upper])
        cell.tool(["chown", "--reference", lower, upper])
        cell.tool(["mount", "-t", "overlay", "overlay", "-o", options, at])
    except ToolFailed as error:
        raise Unsuitable(f"overlayfs does not work here: {_last(error.stderr)}") from error
    return Layer(fs.mountpoint, fs.type, lower, upper, image)


def _last(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-4:])[-600:]
