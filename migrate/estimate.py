"""How large the image will be, from a sample of the disk, before it is read as a whole."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from migrate.blocks import Disk, Span
from migrate.qcow2 import CLUSTER, Content, Packed
from migrate.run import Run

SAMPLES = 96
PER_SAMPLE = 4
"""Clusters that are read at a place: one read of 256 KiB costs a remote source little more than one of 64 KiB."""
DEVIATIONS = 3.0
"""How many standard errors the bar is wide, each way: the truth lies outside in 3 of 1000 disks."""
ENTRY_BYTES = 10
"""What a stored cluster costs in tables: 8 bytes to map it, 2 to count it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The image's size in bytes: what is expected, and what it will hardly be below or above. `read` is what must be read of the disk."""

    read: int
    low: int
    expected: int
    high: int


def largest(read: int) -> int:
    """Return what the image of so many bytes of a disk hardly exceeds: where nothing of them packs, with its tables."""
    return 64 * CLUSTER + read + read // 32


def estimate(run: Run, disk: Disk, pack: Callable[[Content], Packed]) -> Estimate:
    """Read at most 24 MiB, evenly spread over what the disk holds, and pack them."""
    spans = tuple(disk.extents())
    total = sum(span.length for span in spans)
    if total == 0:
        return Estimate(0, CLUSTER, 4 * CLUSTER, 8 * CLUSTER)
    ratios = [_ratio(run, disk, pack, place) for place in _places(spans, total)]
    mean = statistics.fmean(ratios)
    few = len(ratios) * PER_SAMPLE * CLUSTER >= total  # then the sample is the disk
    error = 0.0 if few or len(ratios) < 2 else DEVIATIONS * statistics.stdev(ratios) / math.sqrt(len(ratios))
    tables = 8 * CLUSTER + total // CLUSTER * ENTRY_BYTES
    low, high = max(0.0, mean - error), min(1.01, mean + error)
    return Estimate(total, int(total * low), int(total * mean) + tables, int(total * high) + tables + CLUSTER)


def _places(spans: Sequence[Span], total: int) -> tuple[Span, ...]:
    """Even steps through what is there: the same disk gives the same sample."""
    ends = list(accumulate(span.length for span in spans))
    step = max(PER_SAMPLE * CLUSTER, total // SAMPLES)
    found = []
    for at in range(step // 2 if step < total else 0, total, step):
        index = bisect_right(ends, at)
        span = spans[index]
        offset = (span.offset + at - (ends[index] - span.length)) // CLUSTER * CLUSTER
        start = max(span.offset, offset)
        found.append(Span(start, min(PER_SAMPLE * CLUSTER, span.end - start)))
    return tuple(found)


def _ratio(run: Run, disk: Disk, pack: Callable[[Content], Packed], place: Span) -> float:
    run.check()
    content = disk.read(place.offset, place.length)
    pieces = (content[at : at + CLUSTER] for at in range(0, len(content), CLUSTER))
    stored = sum(len(pack(piece.ljust(CLUSTER, b"\0")).content) for piece in pieces if any(piece))
    return min(1.0, stored / place.length)
