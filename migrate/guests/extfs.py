"""What the superblock of an ext2, ext3 or ext4 says of its state. Source: Linux, Documentation/filesystems/ext4/super.rst."""

import struct
from dataclasses import dataclass

SUPERBLOCK = 1024
MAGIC = 0xEF53

_ERRORS = 0x2
_RECOVER = 0x4


@dataclass(frozen=True, slots=True)
class State:
    """`needs_recovery`: the journal holds what the file system lacks. `has_errors`: the kernel saw that it is damaged."""

    needs_recovery: bool = False
    has_errors: bool = False

    @property
    def wants_check(self) -> bool:
        return self.needs_recovery or self.has_errors


def state(superblock: bytes) -> State:
    """Read the first 256 bytes of a superblock; one that is none has nothing to say."""
    if len(superblock) < 0x68 or struct.unpack_from("<H", superblock, 0x38) != (MAGIC,):
        return State()
    (flags,) = struct.unpack_from("<H", superblock, 0x3A)
    (incompatible,) = struct.unpack_from("<I", superblock, 0x60)
    return State(bool(incompatible & _RECOVER), bool(flags & _ERRORS))
