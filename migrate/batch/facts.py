"""What is known of a batch at one moment: what status, report, dashboard and metrics show, and nothing else does."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import cast

from migrate.errors import Reason
from migrate.outcome import JsonObject


class VmState(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it unless the user asks (`batch retry`)."""
        return self in (VmState.DONE, VmState.REFUSED, VmState.FAILED, VmState.CANCELLED)


@dataclass(frozen=True, slots=True)
class StageFacts:
    """A stage of one VM as it was last run; `ended` is None while it runs, or where it did not come to its end."""

    name: str
    began: datetime
    ended: datetime | None
    summary: str
    worker: str


@dataclass(frozen=True, slots=True)
class EventFacts:
    """A sentence of a VM's log. `level` is "info", "warning" or "error"."""

    at: datetime
    vm: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class VmFacts:
    """`done` of `total` units in the present stage; `rate` units a second; `left_s` seconds until the stage ends. None where it is not known.

    `outcome` is `Outcome.to_json()` of the last run that came to an end, or of what is known of one that failed. `attempt` counts runs from 1 on.
    """

    id: str
    name: str
    address: str
    image: str | None
    state: VmState
    priority: int = 0
    waits_for: str = ""
    """Why a waiting VM does not run, in words: "window opens 22:00", "limit per_source of esx01" …"""
    stage: str | None = None
    done: float | None = None
    total: float | None = None
    unit: str = "B"
    rate: float | None = None
    left_s: float | None = None
    last: str = ""
    last_at: datetime | None = None
    worker: str | None = None
    attempt: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    disk_bytes: int | None = None
    error: str | None = None
    hint: str | None = None
    reasons: tuple[Reason, ...] = ()
    outcome: JsonObject | None = None
    job: str | None = None
    stages: tuple[StageFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A process that runs VMs. `is_alive`: its lease has not run out."""

    id: str
    host: str
    seen: datetime
    is_alive: bool
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """How many bytes were sent in all until then."""

    at: datetime
    sent: int


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """`at` is when this was true; times are aware, in UTC. `is_paused`: nothing starts until `batch resume`."""

    name: str
    at: datetime
    created: datetime
    is_paused: bool
    vms: tuple[VmFacts, ...]
    workers: tuple[WorkerFacts, ...] = ()
    samples: tuple[Sample, ...] = ()
    window_closes: datetime | None = None

    @property
    def counts(self) -> Mapping[VmState, int]:
        """How many VMs are in each state; a state that none is in is left out."""
        return Counter(one.state for one in self.vms)


def reason_of(said: JsonObject) -> Reason:
    """Return a reason that was written as JSON: `asdict(reason)`."""
    details = cast(Sequence[str], said["details"])
    return Reason(str(said["code"]), str(said["text"]), cast("str | None", said["remedy"]), tuple(details))
