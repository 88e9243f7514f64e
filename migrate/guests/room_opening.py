"""The overlay room opened: each file system of the guest mounted through FUSE, damaged journals replayed, and an overlay laid over it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from migrate.errors import ToolFailed
from migrate.guest import (
    Filesystem,
    Kind,
    Layout,
)
from migrate.guests import extfs
from migrate.guests.agent import AgentFiles, open_agent
from migrate.guests.beside import NOTHING, Beside, refuse_elsewhere
from migrate.guests.cell import READING, ROOM, Cell, Unsuitable, open_cell
from migrate.guests.disks import (
    EXT,
    Table,
    filesystem,
    probed,
    read_filesystems,
    read_table,
)
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.lvm import volumes
from migrate.guests.refusals import (
    Found,
    Read,
    unwritable,
)
from migrate.guests.room import MERGED, Layer, RoomGuest, last_words
from migrate.guests.roots import chosen_root, is_needed, layout_of
from migrate.run import Run
from migrate.source import Firmware

# The lower never changes, so the kernel may keep all that it learnt: a find over /usr takes 2.0 s instead of 3.3 s.
FOR_EVER = "kernel_cache,attr_timeout=86400,entry_timeout=86400,negative_timeout=86400"


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
            raise Unsuitable(f"{placed.fs.device} could not be checked here: {last_words(error.stderr)}") from error
        if checked.status == UNMENDED:
            raise Damaged(f"it is damaged, and fsck does not mend it by itself: {_complaint(checked.text)}")
    at = f"{ROOM}/on-{name}"
    options = f"ro,norecovery,offset={start},allow_other,{FOR_EVER}"
    try:
        stack.enter_context(disk.cell.mounted(["fuse2fs", path, at, "-f", "-o", options], at))
    except ToolFailed as error:  # a feature that only the kernel's ext4 knows
        raise Unsuitable(f"{placed.fs.device} cannot be read by fuse2fs: {last_words(error.stderr)}") from error
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
            raise Unsuitable(f"{fs.device} cannot be read by mtools: {last_words(error.stderr)}") from error
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
        raise Unsuitable(f"overlayfs does not work here: {last_words(error.stderr)}") from error
    return Layer(fs.mountpoint, fs.type, lower, upper, image)
