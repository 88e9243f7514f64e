"""What a VM will take, before any of its disks is opened: bytes, the image's size, time, each with how far it may be off.

Where only a disk's size is known, little is known: the bars are wide, and what they stand on is said (`Basis.words`).
"""

import errno
import os
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from migrate.batch.model import Limits
from migrate.errors import MigrateError
from migrate.job import Jobs
from migrate.outcome import Sent
from migrate.source import Vm
from migrate.text import counted
from migrate.wiring.request import VmRequest

ENOUGH = 3
"""Finished jobs that say more than an assumption does."""
MOST_SPANS = 100_000
"""Runs of data of one file that are counted."""


@dataclass(frozen=True, slots=True)
class Bar:
    """What is expected, and what it will hardly be below or above."""

    low: float
    expected: float
    high: float

    def __add__(self, other: "Bar") -> "Bar":
        """Ends are added, too: what makes one VM's guess wrong makes the others' wrong in the same direction."""
        return Bar(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def __mul__(self, other: "Bar") -> "Bar":
        return Bar(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def capped(self, most: float) -> "Bar":
        return Bar(min(self.low, most), min(self.expected, most), min(self.high, most))

    @property
    def json(self) -> dict[str, int]:
        return {"low": round(self.low), "expected": round(self.expected), "high": round(self.high)}


NOTHING = Bar(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Forecast:
    """`disk` bytes of all disks; `read` bytes of the boot disk, `image` bytes, `seconds` from its start to the active image."""

    disk: int
    read: Bar
    image: Bar
    seconds: Bar


@dataclass(frozen=True, slots=True)
class Basis:
    """What a forecast stands on. `used` is the share of a disk that is read, `packed` the image's bytes for each of them; `rate` in bytes a second.

    `fixed` are the seconds of what does not depend on the disk's size: the repair, the proof, the import.
    """

    used: Bar = Bar(0.03, 0.4, 1.0)
    packed: Bar = Bar(0.2, 0.5, 1.0)
    rate: Bar = Bar(15e6, 60e6, 200e6)
    fixed: Bar = Bar(60, 300, 1500)
    jobs: int = 0

    @property
    def words(self) -> str:
        seen = (
            f"shares of disks and sizes of images as in {counted(self.jobs, 'finished job')} of the work folder"
            if self.jobs
            else f"where only a disk's size is known, {_share(self.used)} of it is in use; an image is {_share(self.packed)} of what is read"
        )
        rate = f"{self.rate.low / 1e6:.0f} to {self.rate.high / 1e6:.0f} MB/s"
        fixed = f"{self.fixed.low / 60:.0f} to {self.fixed.high / 60:.0f} min"
        return f"{seen}. Assumed: {rate}, and {fixed} a VM for repair, proof and import. Windows and waiting are not counted."


def _share(bar: Bar) -> str:
    return f"{bar.low * 100:.0f} to {bar.high * 100:.0f} %"


def basis(work: Path) -> Basis:
    """Return what is known of finished jobs, and the assumptions for the rest."""
    used, packed = [], []
    for job in Jobs(work).all():
        try:
            sent, read = job.result("transfer", Sent) if job.is_done else None, job.bytes_read
        except MigrateError:
            continue
        if sent is not None and read and sent.virtual_bytes:
            used.append(min(1.0, read / sent.virtual_bytes))
            packed.append(min(1.0, sent.bytes / read))
    if len(used) < ENOUGH:
        return Basis()
    return replace(Basis(), used=_spread(used), packed=_spread(packed), jobs=len(used))


def _spread(seen: Sequence[float]) -> Bar:
    """As far as was seen, and a half more: a few jobs have not seen it all."""
    return Bar(min(seen) / 1.5, statistics.median(seen), min(1.0, max(seen) * 1.5))


def forecast(vm: Vm, request: VmRequest, basis: Basis) -> Forecast:
    """Return what a VM will take. Nothing is opened; of a file its size on this machine is asked."""
    boot = vm.disks[0].size if vm.disks else 0
    read = _read(vm, request, boot, basis).capped(boot)
    image = read * basis.packed
    flow = Bar(read.low / basis.rate.high, read.expected / basis.rate.expected, read.high / basis.rate.low)
    if request.bandwidth:
        sent = Bar(*(getattr(image, end) / request.bandwidth for end in ("low", "expected", "high")))
        flow = Bar(max(flow.low, sent.low), max(flow.expected, sent.expected), max(flow.high, sent.high))
    return Forecast(sum(disk.size for disk in vm.disks), read, image, flow + basis.fixed)


def _read(vm: Vm, request: VmRequest, boot: int, basis: Basis) -> Bar:
    size = Bar(boot, boot, boot)
    if "://" in request.address:
        return size * basis.used
    files = tuple(_allocated(Path(request.address)))
    held, whole = sum(data for data, _ in files), sum(length for _, length in files)
    if not held:
        return size * basis.used
    match vm.disks[0].format:
        case "raw":
            return Bar(0.6 * held, held, held)
        case "qcow2":  # it may be packed
            return Bar(0.6 * held, held, 4 * held)
        case "vhd" | "vhdx":  # their blocks of up to 32 MiB are served whole
            return Bar(0.6 * held, held, 2 * whole)
        case _:  # a VMDK of an OVA is packed
            return Bar(0.8 * held, 2 * held, 4 * held)


def _allocated(path: Path) -> Iterator[tuple[int, int]]:
    """Of a file, or each file of a folder, the bytes that are no holes, and all. How many blocks it has would be less where a file system packs."""
    try:
        for each in sorted(path.iterdir()) if path.is_dir() else (path,):
            with each.open("rb") as file:
                yield sum(_spans(file.fileno())), os.fstat(file.fileno()).st_size
    except OSError:
        return


def _spans(file: int) -> Iterator[int]:
    """The lengths of what is no hole; the rest at once where there are too many. Source: lseek(2), SEEK_DATA."""
    end, at = os.fstat(file).st_size, 0
    for _ in range(MOST_SPANS):
        try:
            begin = os.lseek(file, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                return
            raise
        at = os.lseek(file, begin, os.SEEK_HOLE)
        yield at - begin
        if at >= end:
            return
    yield end - at


def altogether(forecasts: Iterable[tuple[str, Forecast]], limits: Limits) -> Forecast:
    """Return what a batch takes on one worker, of its VMs' sources and forecasts: time as the narrowest limit has it."""
    found = tuple(forecasts)
    at_once = min(limits.per_worker, limits.overall or limits.per_worker, limits.per_target or limits.per_worker)
    whole = Forecast(0, NOTHING, NOTHING, NOTHING)
    by_source: dict[str, Bar] = {}
    longest = NOTHING
    for source, one in found:
        whole = Forecast(
            whole.disk + one.disk, whole.read + one.read, whole.image + one.image, whole.seconds + one.seconds
        )
        by_source[source] = by_source.get(source, NOTHING) + one.seconds
        longest = _larger(longest, one.seconds)
    seconds = _larger(_over(whole.seconds, at_once), longest)
    for total in by_source.values():
        seconds = _larger(seconds, _over(total, min(at_once, limits.per_source or at_once)))
    return replace(whole, seconds=seconds)


def _over(bar: Bar, at_once: int) -> Bar:
    return Bar(bar.low / at_once, bar.expected / at_once, bar.high / at_once)


def _larger(one: Bar, other: Bar) -> Bar:
    return Bar(max(one.low, other.low), max(one.expected, other.expected), max(one.high, other.high))
