"""What lies on a VM's data disks: seen beside the guest, and never a part of it.

An image holds one disk, so repairs see what the boot disk holds, and nothing of the others is mounted or written. What is on them is known all the same:
a line of fstab means something there, and a volume group that lies on several disks does not start without all of them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from migrate.blocks import Disk
from migrate.errors import GuestError, NotMigratable, Reason, ToolFailed
from migrate.guest import Filesystem, Layout
from migrate.guests import lvm
from migrate.guests.disks import Table, filesystem, probed, read_filesystems, read_table
from migrate.guests.excerpt import Read, excerpt
from migrate.guests.refusals import REMEDY_ONE_DISK, SUBJECT, Code, where
from migrate.run import Note, Run

MEMBER = "LVM2_member"

SYSTEM = frozenset(
    {"/", "/boot", "/boot/efi", "/efi", "/etc", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/sbin"}
)
DATABASES = frozenset({"/var", "/var/lib", "/var/lib/dpkg", "/var/lib/rpm", "/var/lib/pacman"})
"""Where package databases lie: without one nobody knows what is installed."""


@dataclass(frozen=True, slots=True)
class Group:
    """A volume group and the disks that it lies on, counted from 0, a data disk among them."""

    name: str
    disks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Beside:
    """The data disks of a VM: their tables, what is on them and on the groups that lie on them, and those groups."""

    tables: tuple[Table, ...] = ()
    filesystems: tuple[Filesystem, ...] = ()
    groups: tuple[Group, ...] = ()

    def with_boot_disk(self, filesystems: Iterable[Filesystem]) -> tuple[Filesystem, ...]:
        """Return what is on all disks. Of a group that needs a data disk nothing counts as being on the boot disk."""
        own = {fs.device for fs in self.filesystems}
        return (*(self._known(fs) for fs in filesystems if fs.device not in own), *self.filesystems)

    def _known(self, fs: Filesystem) -> Filesystem:
        named = fs.device.split("/")[2:3] if fs.disk is None else []
        needed = next((group.disks for group in self.groups if 0 in group.disks and [group.name] == named), ())
        return replace(fs, disks=needed)


NOTHING = Beside()


def look_beside(run: Run, boot: str, data: Sequence[str]) -> Beside:
    """Return what is on the data disks that NBD serves; some MiB of each are read. A group whose metadata is broken tells nothing."""
    if not data:
        return NOTHING
    with ExitStack() as stack:
        disks = [stack.enter_context(Disk(uri)) for uri in (boot, *data)]
        seen = [_seen(run, disk, number) for number, disk in enumerate(disks)]
        members = [
            _Member(fs, _reader(disks[number], fs.start or 0, fs.size))
            for number, (_, found) in enumerate(seen)
            for fs in found
            if fs.type == MEMBER
        ]
        groups: list[Group] = []
        volumes: list[Filesystem] = []
        for name, physical in _groups(members):
            on = tuple(sorted({member.fs.disk or 0 for member in physical}))
            if on != (0,):
                groups.append(Group(name, on))
                with suppress(GuestError):
                    volumes += _volumes(run, name, physical, on, sum(disk.size for disk in disks))
    known = {fs.device: fs for fs in volumes}  # two groups of one name: LVM starts neither of them by it
    on_data = [fs for _, found in seen[1:] for fs in found]
    return Beside(tuple(table for table, _ in seen[1:]), (*on_data, *known.values()), tuple(groups))


def refuse_elsewhere(layout: Layout) -> None:
    """Raise NotMigratable with a reason for each part of the system that the boot disk does not hold."""
    reasons = [
        Reason(
            Code.OFF_BOOT_DISK,
            f"{fs.mountpoint} of the guest is on {fs.device} ({fs.type}), {where(fs)}",
            REMEDY_ONE_DISK,
        )
        for fs in layout.filesystems
        if fs.mountpoint in SYSTEM | DATABASES and not fs.on_boot_disk
    ]
    if reasons:
        raise NotMigratable(SUBJECT, reasons)


@dataclass(frozen=True, slots=True)
class _Member:
    """A physical volume: what blkid tells of it, and what reads it."""

    fs: Filesystem
    read: Read

    @property
    def uuid(self) -> str:
        return (self.fs.uuid or "").replace("-", "")


def _seen(run: Run, disk: Disk, number: int) -> tuple[Table, tuple[Filesystem, ...]]:
    """Return a disk's table and what is on it. A data disk that nobody can make sense of is no reason to stop."""
    try:
        return _on(run, disk, number)
    except (GuestError, ToolFailed) as error:
        if number == 0:
            raise
        run.tell(Note(f"what is on disk {number + 1} is not known: {error.message}", "warning"))
        return Table(number, disk.size, "none", (), False), ()


def _on(run: Run, disk: Disk, number: int) -> tuple[Table, tuple[Filesystem, ...]]:
    with excerpt(run, _reader(disk, 0, disk.size), disk.size) as shown:
        shown.show_boot_records()
        table = read_table(shown, shown.path, number)
        for part in table.partitions:
            shown.show(part.start, part.size)
        return table, tuple(read_filesystems(shown, shown.path, table))


def _groups(members: Sequence[_Member]) -> Iterator[tuple[str, tuple[_Member, ...]]]:
    """Yield each group once with those of its physical volumes that are here."""
    told: set[frozenset[str]] = set()
    for member in members:
        with suppress(GuestError):
            for group in lvm.groups(member.read):
                uuids = frozenset(volume.uuid.replace("-", "") for volume in group.physical)
                if uuids not in told:
                    told.add(uuids)
                    yield group.name, tuple(each for each in members if each.uuid in uuids)


def _volumes(run: Run, group: str, physical: Sequence[_Member], on: tuple[int, ...], most: int) -> Iterator[Filesystem]:
    for volume in lvm.spread([member.read for member in physical]):
        if volume.group != group or volume.size > most:  # the guest's word only: no file of such a size is made
            continue
        with excerpt(run, _volume_reader(volume, physical), volume.size) as shown:
            said = probed(shown, shown.path, 0, volume.size)
        if "TYPE" in said:
            yield replace(filesystem(said, volume.device, volume.size, None, None, None, None), disks=on)


def _volume_reader(volume: lvm.Spread, physical: Sequence[_Member]) -> Read:
    def read(offset: int, count: int) -> bytes:
        content, start = b"", 0
        for piece in volume.pieces:
            skipped = max(0, offset + len(content) - start)
            step = min(piece.size - skipped, count - len(content))
            if step > 0:
                content += physical[piece.physical].read(piece.offset + skipped, step)
            start += piece.size
        return content

    return read


def _reader(disk: Disk, start: int, size: int) -> Read:
    """Read a part of a disk; less is returned at the end of either."""

    def read(offset: int, count: int) -> bytes:
        count = min(count, size - offset, disk.size - start - offset)
        return bytes(disk.read(start + offset, count)) if count > 0 else b""

    return read
