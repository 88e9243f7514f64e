"""VHD: what its footer and its dynamic header say. Source: Virtual Hard Disk Image Format Specification 1.0, Microsoft 2006."""

import struct
from dataclasses import dataclass
from enum import IntEnum

from adapters.files.image import SECTOR, Image, Node, bytes_of, raw_node, wrong_size
from adapters.files.opened import Window
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason

COOKIE = b"conectix"
FOOTER = struct.Struct(">8sIIQI4sI4sQQIII16sB")

DYNAMIC_HEADER = struct.Struct(">8sQQIII")
"""cookie, next structure, table offset, header version, table entries, block size"""

SLACK = 1 << 20
"""Bytes that may lie between a fixed disk's end and its footer: some writers fill up to a whole MiB."""

AGAIN = "Export or copy it again."


class Kind(IntEnum):
    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class Footer:
    header_offset: int
    size: int
    kind: int
    is_sound: bool


def footer(window: Window) -> Footer | None:
    """The footer in the window's last sector, None where there is none."""
    return _footer(window.read(window.size - SECTOR, SECTOR))


def _footer(sector: bytes) -> Footer | None:
    if len(sector) < SECTOR or not sector.startswith(COOKIE):
        return None
    _, _, _, header_offset, _, _, _, _, _, size, _, kind, checksum, _, _ = FOOTER.unpack_from(sector)
    # One's complement of the sum of all bytes but the checksum's own, which are bytes 64 to 67.
    total = sum(sector) - sum(sector[64:68])
    return Footer(header_offset, size, kind, checksum == ~total & 0xFFFFFFFF)


def vhd(window: Window) -> Image:
    """Return the image; raise NotMigratable with every reason.

    The disk's size is the footer's `current size`, not the file's and not the product of the CHS geometry, which is smaller.
    """
    name, end = window.name, footer(window)
    if end is None:
        text = f"{name}: it begins like a VHD, but its last sector is not the footer, so it was cut off"
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    reasons = wrong_size(name, end.size)
    if not end.is_sound:
        reasons.append(Reason(Code.DAMAGED, f"{name}: the checksum of its VHD footer does not match", AGAIN))
    if end.size % SECTOR:
        reasons.append(
            Reason(Code.DAMAGED, f"{name}: its footer's size of {end.size} bytes is not whole sectors", AGAIN)
        )

    node: Node = {}
    match end.kind:
        case Kind.FIXED:
            reasons += _fixed_reasons(window, end)
            # As raw, because qemu's vpc driver rounds to cylinders, depending on who wrote the file.
            node = raw_node(Window(window.file, name, window.offset, end.size))
        case Kind.DYNAMIC:
            reasons += _dynamic_reasons(window, end)
            node = {"driver": "vpc", "force_size_calc": "current_size", "file": bytes_of(window)}
        case Kind.DIFFERENCING:
            text = f"{name}: it is a differencing disk, only a part of what its parent holds"
            reasons.append(
                Reason(Code.HAS_PARENT, text, "Merge it into its parent: Merge-VHD, or Edit Disk in Hyper-V.")
            )
        case other:
            reasons.append(
                Reason(Code.DAMAGED, f"{name}: its footer tells of a VHD of the unknown kind {other}", AGAIN)
            )
    if reasons:
        raise NotMigratable(name, reasons)
    return Image(name, "vhd", end.size, node)


def _fixed_reasons(window: Window, end: Footer) -> list[Reason]:
    data = window.size - SECTOR
    if 0 <= data - end.size < SLACK:
        return []
    text = f"{window.name}: its VHD footer tells of {end.size} bytes, and {data} lie before it"
    return [Reason(Code.DAMAGED, text, AGAIN)]


def _dynamic_reasons(window: Window, end: Footer) -> list[Reason]:
    name = window.name
    if _footer(window.read(0, SECTOR)) != end:
        text = f"{name}: its first sector is not the copy of its VHD footer"
        return [Reason(Code.DAMAGED, text, AGAIN)]
    header = window.read(end.header_offset, DYNAMIC_HEADER.size)
    if len(header) < DYNAMIC_HEADER.size or not header.startswith(b"cxsparse"):
        return [Reason(Code.DAMAGED, f"{name}: its dynamic VHD header is not where its footer says", AGAIN)]
    _, _, table, _, entries, block = DYNAMIC_HEADER.unpack(header)
    if block < SECTOR or block & (block - 1) or entries * block < end.size or table + 4 * entries > window.size:
        text = f"{name}: its block table ({entries} blocks of {block} bytes) does not hold its {end.size} bytes"
        return [Reason(Code.DAMAGED, text, AGAIN)]
    return []
