"""The disk flows: read once, hashed, packed on all cores, and handed on in the disk's order.

Reading, hashing and packing of one chunk happen in one thread, and several chunks at a time; all three let go of Python's lock. What is handed
on comes in order, so that the result depends on the disk only. A few chunks are in memory at a time, whatever the disk's size.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from migrate.block_map import CHUNK
from migrate.blocks import Disk, Span
from migrate.freed_memory import freed_memory_kept
from migrate.qcow2 import CLUSTER, ZEROS, Content, Packed
from migrate.run import Run

READERS_PER_CORE = 2
"""Of the cores that this process may use. A thread that waits for the source uses no core. More than two are slower over a local socket: they wait for Python's lock (measured)."""
MOST_READERS = 16
"""However many cores there are: each reader has a connection of its own, and a server takes a limited number of them."""
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of the disk: its number, how many bytes were read of it, their SHA-256 with the zeros between them, and its clusters that are
    not zeros only."""

    number: int
    read: int
    sha256: bytes
    clusters: tuple[tuple[int, Packed], ...]


@dataclass(frozen=True, slots=True)
class _Order:
    number: int
    pieces: tuple[Span, ...]


def chunks(
    run: Run,
    disk: Disk,
    pack: Callable[[Content], Packed],
    *,
    start: int = 0,
    threads: int | None = None,
) -> Iterator[Chunk]:
    """Yield the chunks of the disk that hold something, in order, from chunk `start` on; those between read as zeros.

    Raise MigrateError where the disk cannot be read, Stopped within a read.
    """
    count = threads or min(len(os.sched_getaffinity(0)) * READERS_PER_CORE, MOST_READERS)
    waiting: deque[Future[Chunk]] = deque()
    with freed_memory_kept(), ThreadPoolExecutor(count, "stream") as pool:
        try:
            for order in _orders(disk, start):
                waiting.append(pool.submit(_chunk, run, disk, order, pack))
                if len(waiting) > count + 2:
                    yield _result(run, waiting.popleft())
            while waiting:
                yield _result(run, waiting.popleft())
        finally:
            for future in waiting:
                future.cancel()


def needed(disk: Disk) -> int:
    """Return how many bytes of the disk must be read."""
    return sum(extent.length for extent in disk.extents())


def _result(run: Run, future: Future[Chunk]) -> Chunk:
    while True:
        run.check()
        try:
            return future.result(timeout=POLL_S)
        except TimeoutError:
            if future.done():
                raise


def _chunk(run: Run, disk: Disk, order: _Order, pack: Callable[[Content], Packed]) -> Chunk:
    run.check()
    content = _content(disk, order)
    return Chunk(
        order.number,
        sum(piece.length for piece in order.pieces),
        hashlib.sha256(content).digest(),
        tuple(_clusters(order.number * (CHUNK // CLUSTER), content, pack)),
    )


def _clusters(
    first: int, content: bytes | bytearray, pack: Callable[[Content], Packed]
) -> Iterator[tuple[int, Packed]]:
    """Pack what is not zeros only, where it lies: a copy of each cluster costs a twentieth of the whole (measured)."""
    rest = len(content) % CLUSTER
    whole = memoryview(content)
    for number, at in enumerate(range(0, len(content) - rest, CLUSTER), first):
        if not content.startswith(ZEROS, at):
            yield number, pack(whole[at : at + CLUSTER])
    if rest and any(whole[-rest:]):
        yield first + len(content) // CLUSTER, pack(content[-rest:].ljust(CLUSTER, b"\0"))


def _content(disk: Disk, order: _Order) -> bytes | bytearray:
    start = order.number * CHUNK
    length = min(CHUNK, disk.size - start)
    match order.pieces:
        case (Span(offset=offset, length=whole),) if (offset, whole) == (start, length):
            return disk.read(offset, whole)
    content = bytearray(length)
    for piece in order.pieces:
        content[piece.offset - start : piece.end - start] = disk.read(piece.offset, piece.length)
    return content


def _orders(disk: Disk, start: int) -> Iterator[_Order]:
    """Yield each chunk that something must be read of, with what."""
    number, pieces = -1, list[Span]()
    for piece in _cut(disk.extents()):
        at = piece.offset // CHUNK
        if at != number:
            if pieces and number >= start:
                yield _Order(number, tuple(pieces))
            number, pieces = at, []
        pieces.append(piece)
    if pieces and number >= start:
        yield _Order(number, tuple(pieces))


def _cut(extents: Iterable[Span]) -> Iterator[Span]:
    """Cut extents where chunks end."""
    for extent in extents:
        at = extent.offset
        while at < extent.end:
            end = min(extent.end, (at // CHUNK + 1) * CHUNK)
            yield Span(at, end - at)
            at = end
