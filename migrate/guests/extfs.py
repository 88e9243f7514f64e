"""What the superblock of an ext2, ext3 or ext4 says of its state. Source: Linux, Documentation/filesystems/ext4/super.rst."""

import struct
from dataclasses import dataclass

SUPERBLOCK = 1024
MAGIC = 0xEF53

_ERRORS = 0x2
_RECOVER = 0x4
_KNOWN_TO_WRITERS = (
    0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x100 | 0x200 | 0x400 | 0x800 | 0x2000 | 0x8000 | 0x10000
)
"""Compatible for readers only; with any other one Linux mounts it read-only. 0x1000 says "read-only", 0x4000 that blocks are shared."""


@dataclass(frozen=True, slots=True)
class State:
    """`needs_recovery`: the journal holds what the file system lacks. `has_errors`: the kernel saw that it is damaged.

    `read_only`: it has a feature with which nobody may write to it.
    """

    needs_recovery: bool = False
    has_errors: bool = False
    read_only: bool = False

    @property
    def wants_check(self) -> bool:
        return self.needs_recovery or self.has_errors


READ_ONLY = "it is marked as read-only (tune2fs -O ^read-only takes that off)"


def state(superblock: bytes) -> State:
    """Read the first 256 bytes of a superblock; one that is none has nothing to say."""
    if len(superblock) < 0x68 or struct.unpack_from("<H", superblock, 0x38) != (MAGIC,):
        return State()
    (flags,) = struct.unpack_from("<H", superblock, 0x3A)
    incompatible, for_readers = struct.unpack_from("<II", superblock, 0x60)
    return State(bool(incompatible & _RECOVER), bool(flags & _ERRORS), bool(for_readers & ~_KNOWN_TO_WRITERS))
