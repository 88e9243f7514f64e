"""What is on a guest's disks: partitions, file systems, where fstab mounts them, how the firmware starts it.

Read without an appliance: sfdisk and blkid look at the disk in a cell, or at an excerpt of it. The same values come from the appliance (migrate.guests.appliance).
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from migrate.errors import GuestError, ToolFailed
from migrate.guest import Filesystem, Kind, Layout
from migrate.guests.cell import READING
from migrate.guests.releases import RELEASE_FILES
from migrate.run import Limits, Output
from migrate.source import Firmware

SECTOR = 512

EFI_SYSTEM = frozenset({"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "ef"})
"""The partition types of an EFI system partition, GPT and MBR. Source: UEFI 2.10, tables 5-6 and 5-1."""
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"
"""Where GRUB keeps its core on a GPT disk. Source: GRUB manual, "BIOS installation"."""
EXTENDED = frozenset({"5", "f", "85"})
"""The MBR types of a partition that only holds others."""

EXT = frozenset({"ext2", "ext3", "ext4"})
LOCKED = {"crypto_LUKS": "LUKS-encrypted", "BitLocker": "BitLocker-encrypted"}
NOT_MOUNTED = frozenset({"LVM2_member", "linux_raid_member", "swap", "zfs_member", *LOCKED})


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as its table has it; `type` is the table's own code in lower case."""

    disk: int
    number: int
    start: int
    size: int
    type: str
    partuuid: str | None

    @property
    def device(self) -> str:
        return f"{disk_device(self.disk)}{self.number}"


@dataclass(frozen=True, slots=True)
class Table:
    """A disk's partition table: `kind` is "gpt", "dos" or "none"; `boots_bios` says whether its first sector holds boot code."""

    disk: int
    size: int
    kind: str
    partitions: tuple[Partition, ...]
    boots_bios: bool


@dataclass(frozen=True, slots=True)
class FstabLine:
    """One line of fstab(5)."""

    spec: str
    mountpoint: str
    type: str
    options: tuple[str, ...]


def disk_device(number: int) -> str:
    """Return the name of a disk in the appliance's order: 0 is "/dev/sda", 26 is "/dev/sdaa"."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(ord("a") + rest) + letters
    return f"/dev/sd{letters}"


class Tools(Protocol):
    """Runs programs of the host where they see a disk as a file, and nothing else of the host."""

    def tool(
        self, argv: Sequence[str | Path], *, limits: Limits = ..., timeout: float | None = ..., ok: Sequence[int] = ...
    ) -> Output: ...


def has_extended(sector: bytes) -> bool:
    """Whether one of the four entries of an MBR, the disk's first sector, is an extended partition."""
    return any(f"{sector[at]:x}" in EXTENDED for at in range(450, 450 + 4 * 16, 16))


def read_table(cell: Tools, path: str, disk: int) -> Table:
    """Read the partition table of a disk that the cell shows as a file."""
    size = int(cell.tool(["stat", "--format=%s", path]).text)
    boots = any(cell.tool(["head", "--bytes=440", path], limits=READING).stdout)
    try:
        said = json.loads(cell.tool(["sfdisk", "--json", path], limits=READING, timeout=120).stdout)
    except ToolFailed:  # no table: the whole disk may be one file system
        return Table(disk, size, "none", (), boots)
    return table_of(said, disk, size, boots)


def table_of(said: Mapping[str, object], disk: int, size: int, boots_bios: bool) -> Table:
    """Read what `sfdisk --json` says."""
    table = said.get("partitiontable")
    if not isinstance(table, dict):
        raise GuestError(f"the partition table of disk {disk} cannot be read")
    sector = int(table.get("sectorsize", SECTOR))
    mbr = str(table.get("id", "")).removeprefix("0x")
    partitions = []
    for each in table.get("partitions", ()):
        number = int(re.search(r"(\d+)$", each["node"])[1])  # type: ignore[index]
        partuuid = str(each.get("uuid") or f"{mbr}-{number:02x}").lower()
        place = (int(each["start"]) * sector, int(each["size"]) * sector)
        partitions.append(Partition(disk, number, *place, str(each.get("type", "")).lower(), partuuid))
    return Table(disk, size, str(table.get("label", "none")), tuple(partitions), boots_bios)


def read_filesystems(cell: Tools, path: str, table: Table) -> Iterator[Filesystem]:
    """Yield what has a superblock: on each partition, or on the whole disk where it has no table."""
    if not table.partitions:
        found = probed(cell, path, 0, table.size)
        if "TYPE" in found:
            yield filesystem(found, disk_device(table.disk), table.size, table.disk, None, 0, None)
        return
    for part in table.partitions:
        if part.type in EXTENDED and table.kind == "dos":
            continue
        found = probed(cell, path, part.start, part.size)
        if "TYPE" in found:
            yield filesystem(found, part.device, part.size, part.disk, part.number, part.start, part.partuuid)


def probed(cell: Tools, path: str, offset: int, size: int) -> dict[str, str]:
    """Return what blkid finds at a place of a disk; {} where it finds nothing, or more than one thing."""
    argv = ["blkid", "--probe", "--output", "export", "--offset", str(offset), "--size", str(size), path]
    said = cell.tool(argv, limits=READING, timeout=120, ok=(0, 2, 8)).text  # 2: nothing, 8: ambivalent; blkid(8)
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def filesystem(
    found: Mapping[str, str],
    device: str,
    size: int,
    disk: int | None,
    partition: int | None,
    start: int | None,
    partuuid: str | None,
) -> Filesystem:
    label = found.get("LABEL")
    return Filesystem(
        device,
        found["TYPE"],
        size,
        found.get("UUID"),
        None if label is None else re.sub(r"\\(.)", r"\1", label),  # blkid escapes spaces for a shell
        partuuid,
        disk,
        partition,
        start,
    )


def fstab_lines(text: str) -> tuple[FstabLine, ...]:
    """Read fstab(5), its octal escapes too."""
    found = []
    for line in text.splitlines():
        words = [_unescaped(word) for word in line.split()]
        if len(words) >= 3 and not words[0].startswith("#"):
            options = tuple(words[3].split(",")) if len(words) > 3 else ()
            found.append(FstabLine(words[0], words[1], words[2], options))
    return tuple(found)


def _unescaped(word: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), word)


def with_mountpoints(
    filesystems: Sequence[Filesystem], root: str, fstab: Sequence[FstabLine]
) -> tuple[Filesystem, ...]:
    """Say where fstab mounts each; the root is the root whatever fstab says."""
    mounted: dict[str, str] = {root: "/"}
    for line in fstab:
        if line.mountpoint == "/" or "bind" in line.options or "noauto" in line.options:
            continue
        found = find_filesystem(filesystems, line.spec)
        if found is not None and (line.type == "swap" or line.mountpoint.startswith("/")):
            mounted.setdefault(found.device, "swap" if line.type == "swap" else line.mountpoint)
    return tuple(replace(fs, mountpoint=mounted.get(fs.device)) for fs in filesystems)


def find_filesystem(filesystems: Sequence[Filesystem], spec: str) -> Filesystem | None:
    """Return which file system the first word of an fstab line names; None where none of these.

    A device's name depends on the source's hardware: the first disk was /dev/sda, /dev/vda, /dev/xvda or /dev/nvme0n1 there. Source: fstab(5).
    """
    tag, equals, value = spec.partition("=")
    value = value.strip('"')
    for by, attribute in (("UUID", "uuid"), ("LABEL", "label"), ("PARTUUID", "partuuid")):
        named = value if equals and tag.upper() == by else _after(spec, f"/dev/disk/by-{by.lower()}/")
        if named is not None:
            wanted = named if by == "LABEL" else named.lower()
            return next((fs for fs in filesystems if _text(getattr(fs, attribute), by) == wanted), None)
    for fs in filesystems:
        if spec in device_names(fs):
            return fs
    return None


def device_names(fs: Filesystem) -> frozenset[str]:
    """Return the names that a file system's device may have had in the guest, by the kind of its disk's controller."""
    if fs.disk is None:
        return frozenset({fs.device, mapped_name(fs.device)})
    letter = disk_device(fs.disk).removeprefix("/dev/sd")
    number = "" if fs.partition is None else str(fs.partition)
    p = f"p{number}" if number else ""
    plain = {f"/dev/{kind}{letter}{number}" for kind in ("sd", "vd", "xvd", "hd")}
    return frozenset(plain | {f"/dev/nvme{fs.disk}n1{p}", f"/dev/nvme0n{fs.disk + 1}{p}", f"/dev/mmcblk{fs.disk}{p}"})


def mapped_name(device: str) -> str:
    """Return the name that device-mapper gives to a logical volume; anything else is its own name. Source: lvm(8), "Valid names"."""
    group, slash, volume = device.removeprefix("/dev/").partition("/")
    if not slash or group in ("mapper", "disk"):
        return device
    return f"/dev/mapper/{group.replace('-', '--')}-{volume.replace('-', '--')}"


def _after(text: str, prefix: str) -> str | None:
    return text.removeprefix(prefix) if text.startswith(prefix) else None


def _text(value: str | None, by: str) -> str | None:
    return value if value is None or by == "LABEL" else value.lower()


def firmware_of(tables: Iterable[Table], hint: Firmware | None) -> Firmware:
    """Say how the guest starts; what its hypervisor says wins.

    An image may be made for both (Debian's cloud images are): it was started by BIOS where GRUB's BIOS boot partition and boot code are there.
    """
    if hint is not None:
        return hint
    types = {part.type for table in tables for part in table.partitions}
    boots_bios = any(table.boots_bios for table in tables if table.disk == 0)
    if types & EFI_SYSTEM and not (BIOS_BOOT in types and boots_bios):
        return Firmware.UEFI
    return Firmware.BIOS


def assembled(
    tables: Sequence[Table], filesystems: Sequence[Filesystem], root: str, fstab: str, hint: Firmware | None
) -> Layout:
    """Put together what was found."""
    found = with_mountpoints(filesystems, root, fstab_lines(fstab))
    return Layout(found, root, firmware_of(tables, hint), tables[0].size, tables[0].kind)


def is_root(kind: Callable[[str], Kind]) -> bool:
    """Whether a file system is the root of a Linux system, by what is at its paths; os-release is often a link."""
    has_release = any(kind(path) in (Kind.FILE, Kind.LINK) for path in RELEASE_FILES)
    return has_release and kind("/etc/fstab") is Kind.FILE
