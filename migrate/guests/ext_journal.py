"""The journal of an ext3 or ext4, replayed in memory: what a system that was running had written there and not yet in place.

Every snapshot of a running VM needs it. Only what was committed counts. Source: Linux, Documentation/filesystems/ext4/journal.rst; fs/jbd2/recovery.c.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from migrate.errors import GuestError

MAGIC = 0xC03B3998
DESCRIPTOR, COMMIT, REVOKE = 1, 2, 5
SUPERBLOCKS = (3, 4)

_64BIT, _CSUM_V2, _CSUM_V3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_ESCAPED, _SAME_UUID, _LAST = 0x1, 0x2, 0x8
_HEADER = struct.Struct(">III")


@dataclass(frozen=True, slots=True)
class Logged:
    """Where in the journal a block's newest content is, in blocks; one that begins like a journal's block has its first bytes kept apart."""

    block: int
    escaped: bool


def replayed(read: Callable[[int, int], bytes], block_size: int) -> Mapping[int, Logged]:
    """Return the blocks of the file system that the journal holds newer ones of, by number; {} where nothing is to be replayed.

    `read` reads the journal: offset and size in bytes. Raise GuestError where it is broken, or of a kind that is not read here.
    """
    head = read(0, 1024)
    magic, kind, _ = _HEADER.unpack_from(head)
    size, length, first, sequence, start = struct.unpack_from(">IIIII", head, 12)
    (features,) = struct.unpack_from(">I", head, 40)
    if magic != MAGIC or kind not in SUPERBLOCKS or size != block_size or not first < length or start >= length:
        raise GuestError("the journal of the guest's file system is broken: its first block is none of a journal")
    if not start:
        return {}
    if features & _FAST_COMMIT:
        raise GuestError("the journal of the guest's file system holds fast commits, which are not replayed here")
    journal = _Journal(read, size, length, first, features)
    return journal.scanned(start, sequence)


@dataclass(frozen=True, slots=True)
class _Journal:
    read: Callable[[int, int], bytes]
    size: int
    length: int
    first: int
    features: int

    def scanned(self, at: int, sequence: int) -> dict[int, Logged]:
        """Follow the transactions until one is not committed, or is an old one that the ring still holds."""
        done: dict[int, tuple[int, Logged]] = {}
        revoked: dict[int, int] = {}
        pending: list[tuple[int, Logged]] = []
        pending_revoked: list[int] = []
        for _ in range(self.length):
            block = self.read(at * self.size, self.size)
            if len(block) < self.size:
                break
            magic, kind, number = _HEADER.unpack_from(block)
            if magic != MAGIC or number != sequence:
                break
            at = self._after(at)
            match kind:
                case _ if kind == DESCRIPTOR:
                    for target, escaped in self._tags(block):
                        pending.append((target, Logged(at, escaped)))
                        at = self._after(at)
                case _ if kind == REVOKE:
                    pending_revoked += self._revoked(block)
                case _ if kind == COMMIT:
                    done.update((target, (sequence, logged)) for target, logged in pending)
                    revoked.update(dict.fromkeys(pending_revoked, sequence))
                    pending, pending_revoked = [], []
                    sequence = (sequence + 1) & 0xFFFFFFFF
                case _:
                    break
        # A block that was given up in a later transaction must not come back from an earlier one.
        return {target: logged for target, (number, logged) in done.items() if revoked.get(target, -1) < number}

    def _after(self, at: int) -> int:
        return at + 1 if at + 1 < self.length else self.first

    def _tags(self, block: bytes) -> list[tuple[int, bool]]:
        """Return which blocks follow a descriptor, and whether each is escaped."""
        found = []
        at = _HEADER.size
        end = len(block) - (4 if self.features & (_CSUM_V2 | _CSUM_V3) else 0)
        while at + self._tag_size <= end:
            if self.features & _CSUM_V3:
                low, flags, high = struct.unpack_from(">III", block, at)
            else:
                low, _, flags = struct.unpack_from(">IHH", block, at)
                (high,) = struct.unpack_from(">I", block, at + 8) if self.features & _64BIT else (0,)
            found.append((low | (high << 32 if self.features & _64BIT else 0), bool(flags & _ESCAPED)))
            at += self._tag_size + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST:
                break
        return found

    @property
    def _tag_size(self) -> int:
        if self.features & _CSUM_V3:
            return 16
        return 8 + (2 if self.features & _CSUM_V2 else 0) + (4 if self.features & _64BIT else 0)

    def _revoked(self, block: bytes) -> list[int]:
        (count,) = struct.unpack_from(">I", block, _HEADER.size)
        width = 8 if self.features & _64BIT else 4
        places = range(_HEADER.size + 4, min(count, len(block)) - width + 1, width)
        return [int.from_bytes(block[at : at + width], "big") for at in places]
