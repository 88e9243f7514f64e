"""A disk image that was looked at and found sound: how large it is, and how qemu is told to open it."""

from collections.abc import Mapping
from dataclasses import dataclass

from adapters.files.opened import Window
from adapters.files.refusals import Code
from migrate.errors import Reason

Node = Mapping[str, object]
"""One block node for qemu, as `blockdev-add` takes it. It always names its driver, so that qemu never probes."""

SECTOR = 512
LARGEST = 64 << 40
"""Bytes. VHDX ends at 64 TiB, and qemu's tables for what is larger pass the limit of address space."""


@dataclass(frozen=True, slots=True)
class Image:
    """`size` is what the guest sees, in bytes; `format` the word for the user; `notes` what the user should know."""

    name: str
    format: str
    size: int
    node: Node
    notes: tuple[str, ...] = ()


def bytes_of(window: Window) -> Node:
    """The node of a window's own bytes, to lie under a format."""
    return file_node(window) if window.is_whole_file else raw_node(window)


def raw_node(window: Window) -> Node:
    """The node of a disk whose bytes are the window's. A last part of a sector is filled up: a guest sees whole sectors.

    Only a whole file may end within a sector at its file's end, where qemu fills up with zeros by itself; a member of a tar
    is followed by padding.
    """
    if window.is_whole_file:
        return {"driver": "raw", "file": file_node(window)}
    return {
        "driver": "raw",
        "offset": window.offset,
        "size": whole_sectors(window.size),
        "file": file_node(window),
    }


def file_node(window: Window) -> Node:
    return {"driver": "file", "filename": window.file.proc_path}


def whole_sectors(size: int) -> int:
    return -(-size // SECTOR) * SECTOR


def wrong_size(name: str, size: int) -> list[Reason]:
    """The reason to refuse a disk for the size that its header tells, if there is one."""
    if 0 < size <= LARGEST:
        return []
    text = (
        f"{name}: its header tells of a disk of {size} bytes; more than 0 and at most {LARGEST} (64 TiB) can be moved"
    )
    return [Reason(Code.SIZE, text)]
