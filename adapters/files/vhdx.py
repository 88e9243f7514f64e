"""VHDX: what its headers and its metadata say. Source: [MS-VHDX] v20160714, sections 2.2 and 2.6."""

import struct
import uuid

from adapters.files.image import Image, bytes_of, wrong_size
from adapters.files.opened import Window
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason

HEADERS = (64 << 10, 128 << 10)
REGION_TABLES = (192 << 10, 256 << 10)
MOST_ENTRIES = 2047

METADATA_REGION = uuid.UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E").bytes_le
FILE_PARAMETERS = uuid.UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B").bytes_le
VIRTUAL_DISK_SIZE = uuid.UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8").bytes_le
PARENT_LOCATOR = uuid.UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C").bytes_le
HAS_PARENT = 1 << 1

AGAIN = "Export or copy it again."


def vhdx(window: Window) -> Image:
    """Return the image; raise NotMigratable with every reason."""
    name = window.name
    items = _metadata(window)
    size = items.get(VIRTUAL_DISK_SIZE, b"")
    parameters = items.get(FILE_PARAMETERS, b"")
    if len(size) < 8 or len(parameters) < 8:
        text = f"{name}: its VHDX metadata does not tell the disk's size"
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    virtual_size: int = struct.unpack_from("<Q", size)[0]
    flags: int = struct.unpack_from("<I", parameters, 4)[0]

    reasons = wrong_size(name, virtual_size)
    if flags & HAS_PARENT or PARENT_LOCATOR in items:
        text = f"{name}: it is a differencing disk, only a part of what its parent holds"
        remedy = "Merge it into its parent: Merge-VHD, or delete the checkpoint in Hyper-V."
        reasons.append(Reason(Code.HAS_PARENT, text, remedy))
    if _has_log(window):
        text = f"{name}: its log is not empty, so the VM is running or the disk was not closed cleanly"
        remedy = "Shut the VM down, or mount and dismount the disk once in Hyper-V (Mount-VHD, Dismount-VHD)."
        reasons.append(Reason(Code.IN_USE, text, remedy))
    if reasons:
        raise NotMigratable(name, reasons)
    return Image(name, "vhdx", virtual_size, {"driver": "vhdx", "file": bytes_of(window)})


def _has_log(window: Window) -> bool:
    """Whether the header in force names a log. Section 2.2.2: the greater sequence number wins; a log GUID of zeros is no log."""
    headers = [window.read(offset, 64) for offset in HEADERS]
    sound = [header for header in headers if len(header) == 64 and header.startswith(b"head")]
    if not sound:
        return False  # qemu refuses it
    in_force = max(sound, key=lambda header: int.from_bytes(header[8:16], "little"))
    return any(in_force[48:64])


def _metadata(window: Window) -> dict[bytes, bytes]:
    """The first 16 bytes of each metadata item by its GUID; empty where the tables do not hold together."""
    for table in REGION_TABLES:
        start = _metadata_start(window, table)
        if start is None:
            continue
        head = window.read(start, 32)
        if len(head) < 32 or not head.startswith(b"metadata"):
            continue
        count = struct.unpack_from("<H", head, 10)[0]
        entries = window.read(start + 32, 32 * min(count, MOST_ENTRIES))
        found: dict[bytes, bytes] = {}
        for guid, offset, length, _, _ in struct.iter_unpack("<16sIIII", entries[: len(entries) // 32 * 32]):
            found[guid] = window.read(start + offset, min(length, 16))
        return found
    return {}


def _metadata_start(window: Window, table: int) -> int | None:
    head = window.read(table, 16)
    if len(head) < 16 or not head.startswith(b"regi"):
        return None
    count = struct.unpack_from("<I", head, 8)[0]
    entries = window.read(table + 16, 32 * min(count, MOST_ENTRIES))
    for guid, offset, _, _ in struct.iter_unpack("<16sQII", entries[: len(entries) // 32 * 32]):
        if guid == METADATA_REGION:
            start: int = offset
            return start
    return None
