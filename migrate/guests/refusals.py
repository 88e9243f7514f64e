"""Why there is no guest to open on a disk, said with what was seen there: each partition a line, and each reason that its content gives.

A sector of a hostile disk is evidence at most: what is read here decides which words are said, and nothing else.
"""

import json
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial

from migrate.errors import GuestError, NotMigratable, Reason, UsageError
from migrate.guest import Filesystem
from migrate.guests import lvm
from migrate.guests.disks import EFI_SYSTEM, EXTENDED, Partition, Table, find_filesystem
from migrate.text import shown, size

SUBJECT = "the guest"

Read = Callable[[str, int, int], bytes]
"""Reads a device: its name, an offset, a count of bytes."""


class Code(StrEnum):
    """What a guest is refused for. migrate/codes.yaml says what each means."""

    ENCRYPTED = "GUEST-001"
    WINDOWS = "GUEST-002"
    NO_ROOT = "GUEST-004"
    SEVERAL_ROOTS = "GUEST-005"
    MISSING_DISKS = "GUEST-006"
    UNKNOWN_FILESYSTEM = "GUEST-007"
    ROOT_ELSEWHERE = "GUEST-008"
    SEALED = "GUEST-009"
    UNWRITABLE = "GUEST-010"
    OFF_BOOT_DISK = "GUEST-022"


REMEDY_ONE_DISK = (
    "An image holds the boot disk only: move it there in the source VM (pvmove and vgreduce for a volume group)."
)

LINUX = frozenset(
    {
        "ext2",
        "ext3",
        "ext4",
        "xfs",
        "btrfs",
        "f2fs",
        "jfs",
        "reiserfs",
        "LVM2_member",
        "linux_raid_member",
        "crypto_LUKS",
    }
)
OTHER_SYSTEMS = frozenset({"xfs", "btrfs", "f2fs", "jfs", "reiserfs"})
OTHER_ROOTS = OTHER_SYSTEMS | {"LVM2_member", "linux_raid_member"}
"""What may hold a root and is opened by the appliance only."""
FOREIGN = {
    "zfs_member": "ZFS",
    "bcachefs": "bcachefs",
    "bcache": "bcache",
    "LVM1_member": "LVM of the first version",
    "DRBD": "DRBD",
    "VMFS_volume_member": "VMware's VMFS",
    "ufs": "UFS, of a BSD system",
    "apfs": "APFS, of macOS",
    "hfsplus": "HFS+, of macOS",
    "isw_raid_member": "a RAID of the mainboard",
    "ddf_raid_member": "a RAID of a controller",
    "erofs": "EROFS, which cannot be written",
    "squashfs": "squashfs, which cannot be written",
}
"""libblkid's names of what libguestfs's appliance does not open or nobody can change, in words."""

WINDOWS_PARTITIONS = {
    "e3c9e316-0b5c-4db8-817d-f92df00215ae": "Microsoft reserved",
    "de94bba4-06d1-4d40-a16a-bfd50179d6ac": "Windows recovery",
    "27": "Windows recovery",
}
"""Partition types that only Windows makes. Source: Microsoft, PARTITION_INFORMATION_GPT; UEFI 2.10, OS vendors' GUIDs."""
VERITY = frozenset({"2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "77ff5f63-e7b6-4633-acf4-1565b864c0e6"})
"""Types of the hashes that vouch for a root or /usr of x86-64. Source: UAPI Group, Discoverable Partitions Specification."""

LUKS2_JSON = 4096
LUKS2_MAGIC = b"LUKS\xba\xbe"
SEALS = ("systemd-tpm2", "clevis")
ENTRY_FOLDERS = ("/loader/entries", "/boot/loader/entries")
BOOT_CONFIGS = (
    "grub/grub.cfg",
    "grub2/grub.cfg",
    "boot/grub/grub.cfg",
    "boot/grub2/grub.cfg",
    "grub/menu.lst",
    "grub2/grubenv",
)


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on the disks: `failures` says by device why it could not be mounted; `kernels_root` is what a boot loader names as root.

    `read` reads what is on the boot disk.
    """

    tables: Sequence[Table]
    filesystems: Sequence[Filesystem]
    read: Read
    failures: Mapping[str, str] = field(default_factory=dict)
    kernels_root: str | None = None

    @property
    def types(self) -> frozenset[str]:
        return frozenset(fs.type for fs in self.filesystems)

    @property
    def on_boot_disk(self) -> "Found":
        """What of it the image will have."""
        return replace(
            self,
            tables=[table for table in self.tables if table.disk == 0],
            filesystems=[fs for fs in self.filesystems if fs.on_boot_disk],
        )


def where(fs: Filesystem) -> str:
    """Say on which disks something lies that is not on the boot disk."""
    if fs.disk is not None:
        return f"which is on disk {fs.disk + 1}"
    return f"whose volume group lies on {_disks(fs.disks)}"


def _disks(numbers: Iterable[int]) -> str:
    *others, last = [f"disk {number + 1}" for number in sorted(set(numbers))]
    return f"{', '.join(others)} and {last}" if others else last


def no_root(found: Found) -> NotMigratable:
    """Return the refusal of disks on which no root file system of a Linux system was found, with every reason that is seen."""
    boot = found.on_boot_disk
    reasons = [
        *_windows(boot),
        *_encrypted(boot),
        *_foreign(boot),
        *_incomplete(found),
        *_elsewhere(found),
        *_unmounted(boot),
    ]
    if not reasons:
        remedy = "Check that this is the disk that the VM boots from, and that it starts in the source."
        text = "no file system on the disk has both /etc/os-release and /etc/fstab, as the root of a Linux system has"
        reasons = [Reason(Code.NO_ROOT, text, remedy)]
    first, *others = reasons
    told = Reason(first.code, first.text, first.remedy, ("seen on the disk:", *seen(found)))
    return NotMigratable(SUBJECT, [told, *others])


def several_roots(roots: Mapping[str, str]) -> NotMigratable:
    """Return the refusal of disks with more than one root: device → the name of the system there."""
    lines = tuple(f"--root {device:<18} {shown(name)}" for device, name in roots.items())
    text = f"{len(roots)} systems are on the disk, and it cannot be told which one starts"
    return NotMigratable(
        SUBJECT, [Reason(Code.SEVERAL_ROOTS, text, "Name one with --root; the others are left as they are.", lines)]
    )


def not_a_root(wanted: str, roots: Mapping[str, str]) -> UsageError:
    """Return the error of a --root that names no root: device → the name of the system there."""
    there = ", ".join(f"{device} ({shown(name)})" for device, name in roots.items()) or "none"
    return UsageError(
        f"--root {shown(wanted)}: there is no root of a Linux system on it", hint=f"Roots on the disk: {there}."
    )


def unwritable(device: str, mountpoint: str | None, why: str) -> NotMigratable:
    """Return the refusal of a guest one of whose file systems cannot be repaired on."""
    place = f", {mountpoint} of the guest," if mountpoint else ""
    remedy = (
        f"Mend it in the source VM, from a rescue system: fsck -f on what is {device} here. Then export the disk again."
    )
    return NotMigratable(SUBJECT, [Reason(Code.UNWRITABLE, f"{device}{place} cannot be changed: {why}", remedy)])


def snapshot_root(device: str, subvolume: str) -> NotMigratable:
    """Return the refusal of a root that is a read-only snapshot: a system that is only changed as a whole."""
    text = f"the root, subvolume {shown(subvolume)} of {device}, is a read-only snapshot: the system is only changed by transactions"
    remedy = (
        "Make it writable in the source VM (btrfs property set / ro false), or rebuild the machine on Magalu Cloud."
    )
    return NotMigratable(SUBJECT, [Reason(Code.UNWRITABLE, text, remedy)])


def seen(found: Found) -> tuple[str, ...]:
    """Say of each partition and volume what is on it, a line each."""
    by_device = {fs.device: fs for fs in found.filesystems}
    lines = []
    for table in found.tables:
        kind = {"gpt": "GPT", "dos": "MBR"}.get(table.kind, "no partition table")
        lines.append(f"disk {table.disk + 1}: {size(table.size)}, {kind}")
        for part in table.partitions:
            if not (part.type in EXTENDED and table.kind == "dos"):
                lines.append(
                    _line(part.device, part.size, by_device.pop(part.device, None), _role(part), found.failures)
                )
    lines += [_line(fs.device, fs.size, fs, "", found.failures) for fs in by_device.values()]
    return tuple(lines) or ("nothing at all",)


def _line(device: str, count: int, fs: Filesystem | None, role: str, failures: Mapping[str, str]) -> str:
    known = {
        "crypto_LUKS": "LUKS-encrypted",
        "BitLocker": "BitLocker-encrypted",
        "LVM2_member": "LVM",
        "linux_raid_member": "RAID",
    }
    what = "nothing that is known" if fs is None else known.get(fs.type, FOREIGN.get(fs.type, fs.type))
    label = f' "{fs.label}"' if fs and fs.label else ""
    failure = f"; {failures[device]}" if device in failures else ""
    return shown(f"  {device:<14} {size(count):>9}  {what}{label}{f' ({role})' if role else ''}{failure}")


def _role(part: Partition) -> str:
    if part.type in EFI_SYSTEM:
        return "EFI system partition"
    return WINDOWS_PARTITIONS.get(part.type, "verity hashes" if part.type in VERITY else "")


def _windows(found: Found) -> Iterator[Reason]:
    partitions = [part for table in found.tables for part in table.partitions]
    evidence = [
        f"{part.device} is {WINDOWS_PARTITIONS[part.type]}" for part in partitions if part.type in WINDOWS_PARTITIONS
    ]
    plain = [fs.device for fs in found.filesystems if fs.type in ("ntfs", "BitLocker", "ReFS")]
    if plain and (evidence or not found.types & LINUX):
        evidence += [
            f"{device} is {'BitLocker-encrypted' if device in _of(found, 'BitLocker') else 'NTFS'}" for device in plain
        ]
        yield Reason(Code.WINDOWS, f"this is Windows: {', '.join(evidence)}", "Only Linux guests can be moved.")


def _encrypted(found: Found) -> Iterator[Reason]:
    for fs in found.filesystems:
        if fs.type != "crypto_LUKS":
            continue
        if (seal := _seal(found.read, fs.device)) is not None:
            text = f"{fs.device} is LUKS-encrypted, and its key is sealed to the source machine ({seal}): it opens nowhere else"
            yield Reason(
                Code.SEALED, text, "Add a passphrase and decrypt it in the source VM (cryptsetup reencrypt --decrypt)."
            )
        else:
            remedy = "Decrypt it in the source VM first (cryptsetup reencrypt --decrypt), or move the data to an unencrypted disk."
            yield Reason(
                Code.ENCRYPTED,
                f"{fs.device} is LUKS-encrypted, so that nothing in it can be repaired from outside",
                remedy,
            )
    verity = [part.device for table in found.tables for part in table.partitions if part.type in VERITY]
    if verity:
        text = f"{', '.join(verity)} vouches for each block of the system (dm-verity), so that nothing in it can be changed"
        yield Reason(Code.SEALED, text, "Rebuild the machine on Magalu Cloud from its own image.")


def _seal(read: Read, device: str) -> str | None:
    """Return what the key of a LUKS2 volume is sealed with; None where a passphrase or nothing that is known opens it.

    Source: LUKS2 On-Disk Format Specification, 3.5 "Tokens Object"; systemd-cryptenroll(1); clevis-luks-bind(1).
    """
    try:
        header = read(device, 0, LUKS2_JSON)
        if header[:6] != LUKS2_MAGIC or len(header) < LUKS2_JSON or struct.unpack_from(">H", header, 6) != (2,):
            return None
        (length,) = struct.unpack_from(">Q", header, 8)
        text = read(device, LUKS2_JSON, min(length, 1 << 22) - LUKS2_JSON).split(b"\0", 1)[0]
        tokens = json.loads(text).get("tokens", {})
        kinds = {str(token.get("type")) for token in tokens.values()}
    except (GuestError, ValueError, AttributeError, RecursionError):
        return None
    return next((kind for kind in SEALS if kind in kinds), None)


def _foreign(found: Found) -> Iterator[Reason]:
    for fs in found.filesystems:
        if fs.type in FOREIGN:
            text = f"{fs.device} is {FOREIGN[fs.type]}, which cannot be opened here; the root is probably on it"
            yield Reason(Code.UNKNOWN_FILESYSTEM, text, "Move the system to ext4, xfs or btrfs in the source VM.")


def _incomplete(found: Found) -> Iterator[Reason]:
    """Groups with a physical volume on the boot disk whose others are not here, or on a data disk."""
    here = {(fs.uuid or "").replace("-", ""): fs for fs in found.filesystems if fs.type == "LVM2_member"}
    groups: dict[str, lvm.Group] = {}
    for fs in here.values():
        with suppress(GuestError):
            if fs.on_boot_disk:
                groups |= {group.name: group for group in lvm.groups(partial(found.read, fs.device))}
    for group in groups.values():
        uuids = [volume.uuid.replace("-", "") for volume in group.physical]
        missing = [volume for volume, uuid in zip(group.physical, uuids, strict=True) if uuid not in here]
        members = [here[uuid] for uuid in uuids if uuid in here]
        if missing:
            named = ", ".join(f"{volume.device} of {size(volume.size)}" for volume in missing)
            text = f'of the volume group "{shown(group.name)}" {len(missing)} of {len(group.physical)} disks are not here: {shown(named)}'
            remedy = "An image holds the boot disk only: move the group to it in the source VM (pvmove, vgreduce)."
            yield Reason(Code.MISSING_DISKS, text, remedy)
        elif not all(fs.on_boot_disk for fs in members):
            disks = _disks(fs.disk for fs in members if fs.disk is not None)
            named = ", ".join(fs.device for fs in members)
            held = [
                f"{fs.device} ({size(fs.size)})"
                for fs in found.filesystems
                if fs.device.startswith(f"/dev/{group.name}/")
            ]
            text = f'the volume group "{group.name}" lies on {disks} ({named}), and the root is probably in it'
            yield Reason(Code.OFF_BOOT_DISK, shown(text), REMEDY_ONE_DISK, tuple(map(shown, held)))


def _elsewhere(found: Found) -> Iterator[Reason]:
    if found.kernels_root is not None:
        named = f"root={shown(found.kernels_root)}"
        fs = find_filesystem(found.filesystems, found.kernels_root)
        text = f"the boot loader on this disk starts a root that is not on it: {named}"
        if fs is not None:
            text = f"the boot loader on this disk starts a root on {fs.device} ({fs.type}), {where(fs)}: {named}"
        yield Reason(
            Code.ROOT_ELSEWHERE, text, "An image holds the boot disk only: move the root to it in the source VM."
        )


def _unmounted(found: Found) -> Iterator[Reason]:
    for fs in found.filesystems:
        if fs.device in found.failures and fs.type in LINUX:
            yield from unwritable(fs.device, None, f"it is {fs.type}, and {found.failures[fs.device]}").reasons


def root_argument(texts: Sequence[str]) -> str | None:
    """Return the root that kernels are started with, from the texts of a boot loader's configuration."""
    for text in texts:
        if (
            found := re.search(r"(?m)^\s*(?:linux\S*|kernel\S*|options|kernelopts=)\s.*?\broot=([^\s\"']{1,200})", text)
        ) is not None:
            return found[1]
    return None


def _of(found: Found, type_: str) -> frozenset[str]:
    return frozenset(fs.device for fs in found.filesystems if fs.type == type_)
