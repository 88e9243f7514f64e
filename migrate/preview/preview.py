"""What will be done to a VM, and what it is."""

from dataclasses import dataclass
from datetime import datetime

from migrate.effects import Changes
from migrate.guest import Filesystem, Layout, Os
from migrate.preview.rehearsal import Rehearsal
from migrate.source import Disk, Firmware, Vm
from migrate.text import one_line, size


@dataclass(frozen=True, slots=True)
class Occasion:
    """When a preview was made, of which source as it was given, by which version of ours."""

    address: str
    made: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What will be done to a VM, and what it is. `login` is the user whom the key will admit; `kernels` newest last.

    `read_bytes` is what is read of the source at most, None where nobody asked it.
    """

    vm: Vm
    os: Os
    layout: Layout
    kernels: tuple[str, ...]
    login: str | None
    changes: Changes
    read_bytes: int | None = None
    occasion: Occasion | None = None
    rehearsal: Rehearsal | None = None

    @property
    def can_go(self) -> bool:
        return not any(finding.forbids for finding in self.changes.findings)

    @property
    def used_bytes(self) -> int | None:
        """What the file systems hold whose free space is known; None where none is."""
        known = [fs.size - fs.free for fs in self.layout.filesystems if fs.free is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A disk of the VM that no image holds: its number, from 2 on, and what has a superblock on it, volumes of its groups among them."""

    number: int
    disk: Disk
    filesystems: tuple[Filesystem, ...]

    @property
    def words(self) -> str:
        """What it is and what is on it, in a line."""
        held = [_held(fs) for fs in self.filesystems] or ["nothing that is known"]
        return one_line(f"disk {self.number}, {self.disk.name}, {size(self.disk.size)}: {'; '.join(held)}")


def data_disks(preview: Preview) -> tuple[DataDisk, ...]:
    """Return the VM's data disks in order."""
    found = preview.layout.filesystems
    return tuple(
        DataDisk(number, disk, tuple(fs for fs in found if number - 1 in (fs.disk, *fs.disks)))
        for number, disk in tuple(enumerate(preview.vm.disks, 1))[1:]
    )


def _held(fs: Filesystem) -> str:
    kind = {"LVM2_member": "LVM", "linux_raid_member": "RAID", "crypto_LUKS": "LUKS-encrypted"}.get(fs.type, fs.type)
    label = f'"{fs.label}"' if fs.label else ""
    place = f"on {fs.mountpoint}" if fs.mountpoint and fs.mountpoint.startswith("/") else ""
    return " ".join(word for word in (fs.device, kind, label, size(fs.size), place, fs.uuid or "") if word)


def head(preview: Preview, *, named: bool = True) -> str:
    """Return what the VM is, in a line that begins with its name."""
    used = preview.used_bytes
    parts = [preview.vm.name] if named else []
    parts += [
        preview.os.pretty or preview.os.id or "unknown system",
        "UEFI" if preview.layout.firmware is Firmware.UEFI else "BIOS",
        size(preview.layout.disk_size) + (f", {size(used)} used" if used else ""),
    ]
    if preview.kernels:
        parts.append(f"kernel {preview.kernels[-1]}")
    if preview.vm.origin != "file":
        parts.append(f"from {preview.vm.origin}")
    return one_line(" · ".join(parts))
