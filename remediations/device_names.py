"""What a guest calls its disks: which file system is meant by "/dev/sda2", "UUID=…", "/dev/mapper/vg0-root".

Sources: Linux, Documentation/admin-guide/devices.txt; fstab(5), "The first field"; lvm(8), "VALID NAMES".
"""

import re
from dataclasses import dataclass

from migrate.guest import Filesystem, Layout

PARTITION = re.compile(r"/dev/(?:(?:sd|hd|vd|xvd)([a-z])(\d+)?|nvme(\d+)n1(?:p(\d+))?)")
TAG = re.compile(r"(UUID|LABEL|PARTUUID|PARTLABEL)=(.*)")
BY = {"by-uuid": "UUID", "by-label": "LABEL", "by-partuuid": "PARTUUID", "by-partlabel": "PARTLABEL"}
NO_GROUP = frozenset({"disk", "mapper", "md", "cloud", "block", "char", "zvol", "drbd", "rbd", "bus", "input"})
REMOVABLE = re.compile(r"/dev/(?:sr|scd|fd)\d+|/dev/(?:cdrom|cdrw|dvd|dvdrw|floppy)\d*")
BOOT_DISK = 0
CLOSED = frozenset({"crypto_LUKS", "linux_raid_member", "zfs_member", "bcache", "drbd", "BitLocker"})
"""What holds file systems that nobody sees from outside."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A partition by its numbers: `disk` counts from 0, `partition` from 1; None is the whole disk."""

    disk: int
    partition: int | None


def numbered(name: str) -> Numbered | None:
    """Return what a kernel's name such as "/dev/sdb3" or "/dev/nvme0n1p2" counts; None where it is no such name."""
    match = PARTITION.fullmatch(name)
    if match is None:
        return None
    letter, partition, nvme, nvme_partition = match.groups()
    disk = int(nvme) if nvme is not None else ord(letter) - ord("a")
    part = nvme_partition if nvme is not None else partition
    return Numbered(disk, int(part) if part is not None else None)


def filesystem(layout: Layout, name: str) -> Filesystem | None:
    """Return the file system that a name of any kind means; None where the layout has none of that name."""
    number = numbered(name)
    if number is not None:
        return next(
            (fs for fs in layout.filesystems if (fs.disk, fs.partition) == (number.disk, number.partition)), None
        )
    kind, value = tag(name)
    match kind:
        case "UUID":
            return next((fs for fs in layout.filesystems if fs.uuid and fs.uuid.lower() == value.lower()), None)
        case "LABEL":
            return next((fs for fs in layout.filesystems if fs.label == value), None)
        case "PARTUUID":
            return next((fs for fs in layout.filesystems if fs.partuuid and fs.partuuid.lower() == value.lower()), None)
    return next((fs for fs in layout.filesystems if name in _volume_names(fs)), None)


def tag(name: str) -> tuple[str, str]:
    """Split "UUID=…", with or without quotes, and "/dev/disk/by-uuid/…" into kind and value; ("", name) where it is neither."""
    match = TAG.fullmatch(name)
    if match is not None:
        return match[1], match[2].strip("\"'")
    folder, _, value = name.removeprefix("/dev/disk/").partition("/")
    return (BY[folder], value) if name.startswith("/dev/disk/") and folder in BY else ("", name)


def names_volume(name: str) -> bool:
    """Whether it is the name of a logical volume: "/dev/vg0/root" or "/dev/mapper/vg0-root"."""
    parts = name.split("/")
    if name.startswith("/dev/mapper/"):
        return "-" in name and not name.startswith(("/dev/mapper/luks-", "/dev/mapper/mpath"))
    return len(parts) == 4 and name.startswith("/dev/") and parts[2] not in NO_GROUP


def absent(layout: Layout, name: str) -> bool:
    """Whether neither the boot disk nor what can be seen of the others has what the name means, as far as that can be known."""
    if filesystem(layout, name) is not None:
        return False
    if numbered(name) is not None:
        return True
    if names_volume(name) or tag(name)[0] in ("UUID", "LABEL", "PARTUUID"):
        return not any(fs.type in CLOSED and fs.on_boot_disk for fs in layout.filesystems)
    # By the old controller's or disk's own number, or by a cloud's udev rules (/dev/disk/azure, /dev/disk/cloud), which go with its agent.
    return name.startswith("/dev/disk/") and tag(name)[0] == ""


def stays_behind(layout: Layout, name: str) -> bool:
    """Whether the new machine will not have what the name means: an image is made of the boot disk only."""
    fs = filesystem(layout, name)
    return absent(layout, name) if fs is None else not fs.on_boot_disk


def stable(fs: Filesystem) -> str | None:
    """Return the name that a file system keeps on every machine; None where it has none."""
    if fs.uuid:
        return f"UUID={fs.uuid}"
    return f"PARTUUID={fs.partuuid}" if fs.partuuid else None


def _volume_names(fs: Filesystem) -> frozenset[str]:
    """A volume has two names; in the second each hyphen is doubled."""
    parts = fs.device.split("/")
    if fs.disk is not None or len(parts) != 4:
        return frozenset({fs.device})
    group, volume = (part.replace("-", "--") for part in parts[2:])
    return frozenset({fs.device, f"/dev/mapper/{group}-{volume}"})
