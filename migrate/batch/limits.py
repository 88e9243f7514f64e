"""Why a VM does not start now: somebody paused it, it is too early, its window is closed, or enough others run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from migrate.batch.model import Limits, Window
from migrate.batch.windows import closes, opens
from migrate.text import shown

Place = Literal["source", "target"]
"""What a pace is of."""

GROWS_AFTER_S = 60.0
"""How long a halved limit must have held before it grows by one."""


@dataclass(frozen=True, slots=True)
class Running:
    """A VM that somebody works on."""

    source: str
    target: str
    worker: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A VM that may start. `not_before` in seconds since 1970."""

    source: str
    target: str
    not_before: float | None = None
    window: Window | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """How many at once a place that was busy is given now, and since when."""

    allowed: int
    changed: float


Paces = Mapping[tuple[Place, str], Pace]


def hindrance(
    vm: Waiting, running: Sequence[Running], limits: Limits, paces: Paces, worker: str | None, now: float
) -> str | None:
    """Return in words why the VM cannot start on this worker (on any where it is None); None where it can."""
    moment = datetime.fromtimestamp(now, UTC)
    if vm.not_before is not None and now < vm.not_before:
        return f"not before {clock_time(datetime.fromtimestamp(vm.not_before, UTC), moment)}"
    if vm.window is not None and closes(vm.window, moment) is None:
        opening = opens(vm.window, moment)
        return "its window never opens" if opening is None else f"window opens {clock_time(opening, moment)}"
    if limits.overall is not None and len(running) >= limits.overall:
        return f"limit overall ({limits.overall})"
    places: tuple[tuple[Place, str, int | None], ...] = (
        ("source", vm.source, limits.per_source),
        ("target", vm.target, limits.per_target),
    )
    for place, name, limit in places:
        count = sum(getattr(one, place) == name for one in running)
        if limit is not None and count >= limit:
            return f"limit per_{place} of {shown(name)} ({limit})"
        pace = paces.get((place, name))
        if pace is not None and count >= pace.allowed:
            return f"{shown(name)} was busy: {pace.allowed} at once"
    if worker is not None and sum(one.worker == worker for one in running) >= limits.per_worker:
        return f"limit per_worker ({limits.per_worker})"
    return None


def slower(running: int, pace: Pace | None, now: float) -> Pace:
    """Return the pace of a place that said that it is busy: half of what it had, and one at least."""
    had = running if pace is None else min(running, pace.allowed)
    return Pace(max(1, had // 2), now)


def faster(pace: Pace, now: float, after: float = GROWS_AFTER_S) -> Pace:
    """Return the pace of a place where something went well: one more, once the last change has held a while."""
    return Pace(pace.allowed + 1, now) if now - pace.changed >= after else pace


def clock_time(moment: datetime, now: datetime) -> str:
    """Return a moment as it is said: "22:00 UTC" within a day, else with its date."""
    near = (moment - now).total_seconds() < 86_400
    return f"{moment:%H:%M} UTC" if near else f"{moment:%Y-%m-%d %H:%M} UTC"
