"""What the page's charts show, in their own coordinates: when each stage of each VM ran, and how much was sent when."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from migrate.batch.facts import BatchFacts, Sample, VmFacts, VmState
from migrate.text import size, took

WIDTH = 1000.0
LEFT = 150.0
"""Where time begins: before it stand the names."""
LANE = 18.0
BAR = 12.0
TOP = 22.0
HIGH = 160.0
"""Of the throughput's plot."""
POINTS = 200
"""So many steps are drawn at most; more samples are joined."""


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    width: float
    stage: str
    is_cut: bool
    """It did not come to its end."""
    words: str


@dataclass(frozen=True, slots=True)
class Lane:
    y: float
    id: str
    name: str
    state: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Gantt:
    width: float
    height: float
    left: float
    bar: float
    ticks: tuple[Tick, ...]
    lanes: tuple[Lane, ...]
    stages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Throughput:
    """`line` is an SVG path; `marks` are the values of the axis, from its top down."""

    width: float
    height: float
    left: float
    top: float
    line: str
    area: str
    ticks: tuple[Tick, ...]
    marks: tuple[Tick, ...]
    words: str


def gantt(facts: BatchFacts) -> Gantt | None:
    """Return the timeline of the VMs that have begun, by their begin; None where none has."""
    begun = sorted((vm for vm in facts.vms if vm.stages), key=lambda vm: vm.stages[0].began)
    if not begun:
        return None
    first = begun[0].stages[0].began
    last = max(_end(vm, facts.at) for vm in begun)
    scale = _Scale(first, max(last, first + timedelta(seconds=1)))
    lanes = tuple(_lane(vm, TOP + number * LANE, scale, facts.at) for number, vm in enumerate(begun))
    stages = tuple(dict.fromkeys(stage.name for vm in begun for stage in vm.stages))
    return Gantt(WIDTH, TOP + len(lanes) * LANE + 6, LEFT, BAR, tuple(scale.ticks()), lanes, stages)


def _lane(vm: VmFacts, y: float, scale: "_Scale", now: datetime) -> Lane:
    bars = []
    for stage in vm.stages:
        runs = stage.ended is None and vm.state is VmState.RUNNING
        ended = stage.ended or (now if runs else stage.began)
        left, right = scale.x(stage.began), scale.x(ended)
        words = f"{stage.name}: {took((ended - stage.began).total_seconds())}"
        words += "" if stage.ended else ", it runs" if runs else ", it did not come to its end"
        bars.append(Bar(left, max(right - left, 2.0), stage.name, stage.ended is None and not runs, words))
    return Lane(y, vm.id, vm.name, vm.state.value, tuple(bars))


def _end(vm: VmFacts, now: datetime) -> datetime:
    return max(stage.ended or (now if vm.state is VmState.RUNNING else stage.began) for stage in vm.stages)


def throughput(samples: Sequence[Sample]) -> Throughput | None:
    """Return how fast was sent over time; None where too little is known for a line."""
    joined = _joined(samples)
    if len(joined) < 2:
        return None
    rates = [
        max(0.0, (after.sent - before.sent) / max((after.at - before.at).total_seconds(), 0.001))
        for before, after in pairwise(joined)
    ]
    highest = _round_up(max(rates))
    scale = _Scale(joined[0].at, joined[-1].at)
    bottom = TOP + HIGH
    points = []
    for rate, (before, after) in zip(rates, pairwise(joined), strict=True):
        y = bottom - HIGH * rate / highest
        points += [(scale.x(before.at), y), (scale.x(after.at), y)]
    line = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    area = f"{line} L{points[-1][0]:.1f} {bottom:.1f} L{points[0][0]:.1f} {bottom:.1f} Z"
    seconds = (joined[-1].at - joined[0].at).total_seconds()
    sent = joined[-1].sent - joined[0].sent
    words = f"{size(sent)} were sent in {took(seconds)}: {size(sent / max(seconds, 1))}/s on average, {size(max(rates))}/s at best"
    marks = tuple(Tick(TOP + HIGH * part / 2, f"{size(highest * (1 - part / 2))}/s") for part in range(3))
    return Throughput(WIDTH, bottom + 24, LEFT, TOP, line, area, tuple(scale.ticks()), marks, words)


def _joined(samples: Sequence[Sample]) -> list[Sample]:
    step = max(1, math.ceil(len(samples) / POINTS))
    return [*samples[::step], *([samples[-1]] if samples and (len(samples) - 1) % step else [])]


def _round_up(rate: float) -> float:
    """Return the next value with one digit, in powers of two as sizes are written."""
    if rate <= 0:
        return 1.0
    unit: int = 1024 ** int(math.log(max(rate, 1), 1024))
    tens: int = 10 ** int(math.log10(max(rate / unit, 1)))
    return math.ceil(rate / unit / tens) * tens * unit


@dataclass(frozen=True, slots=True)
class _Scale:
    first: datetime
    last: datetime

    def x(self, at: datetime) -> float:
        whole = max((self.last - self.first).total_seconds(), 0.001)
        return LEFT + (WIDTH - LEFT - 10) * (at - self.first).total_seconds() / whole

    def ticks(self) -> Iterator[Tick]:
        """Yield some five round moments."""
        whole = (self.last - self.first).total_seconds()
        steps = (1, 5, 15, 60, 300, 900, 1800, 3600, 2 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400)
        step = next((one for one in steps if whole / one <= 6), steps[-1])
        form = "%d %b" if step >= 86400 else "%d %b %H:%M" if whole > 86400 else "%H:%M" if step >= 60 else "%H:%M:%S"
        midnight = self.first.replace(hour=0, minute=0, second=0, microsecond=0)
        at = midnight + timedelta(seconds=math.ceil((self.first - midnight).total_seconds() / step) * step)
        while at <= self.last:
            yield Tick(self.x(at), at.strftime(form))
            at += timedelta(seconds=step)
