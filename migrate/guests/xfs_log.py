"""Whether an xfs was unmounted: what its log holds otherwise is not in place yet. The log is not replayed here.

Source: Linux, fs/xfs/libxfs/xfs_log_format.h; fs/xfs/xfs_log_recover.c, xlog_find_head and xlog_check_unmount_rec.
"""

import struct
from collections.abc import Callable

BLOCK = 512
MAGIC = 0xFEEDBABE
HEADER_HOLDS = 32 << 10
UNMOUNT = 0x20
FARTHEST = 1 << 10
"""Blocks to go back for the last record: one is of 256 KiB at most."""


def is_clean(read: Callable[[int, int], bytes], length: int) -> bool:
    """Whether the newest record says that the file system was unmounted. `read` reads the log, `length` is its size in bytes.

    A log that is not understood is not clean.
    """
    blocks = length // BLOCK
    if blocks < 2:
        return False
    head = _head(lambda number: _cycle(read(number * BLOCK, BLOCK)), blocks)
    for back in range(1, min(blocks, FARTHEST) + 1):
        at = (head - back) % blocks
        block = read(at * BLOCK, BLOCK)
        if len(block) == BLOCK and block[:4] == MAGIC.to_bytes(4, "big"):
            (size,) = struct.unpack_from(">I", block, 320)
            headers = max(1, -(-size // HEADER_HOLDS)) if block[11] & 2 else 1
            (held,) = struct.unpack_from(">I", block, 12)
            (operations,) = struct.unpack_from(">I", block, 40)
            if operations != 1 or (at + headers + -(-held // BLOCK)) % blocks != head % blocks:
                return False
            operation = read((at + headers) % blocks * BLOCK, BLOCK)
            return len(operation) == BLOCK and bool(operation[9] & UNMOUNT)
    return False


def _cycle(block: bytes) -> int:
    """Return in which round of the ring a block was written: its first word says so, or the second of a record's header."""
    first, second = struct.unpack_from(">II", block.ljust(8, b"\0"))
    return int(second if first == MAGIC else first)


def _head(cycle: Callable[[int], int], blocks: int) -> int:
    """Return the block after the newest one: there the rounds change."""
    first = cycle(0)
    if cycle(blocks - 1) == first:
        return blocks
    low, high = 0, blocks - 1
    while low + 1 < high:
        middle = (low + high) // 2
        if cycle(middle) == first:
            low = middle
        else:
            high = middle
    return high
