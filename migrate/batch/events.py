"""What running VMs tell, on its way into the database: gathered, and written once a second for all of them together."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from migrate.batch import store_tables as tables
from migrate.batch.store import Store
from migrate.batch.store_claims import Claim
from migrate.run import Event, Note, Progress, StageBegan, StageDone
from migrate.text import shown

SAMPLE_S = 15.0
RATE_S = 10.0
"""A rate is that of the last seconds."""
LONGEST = 2000
"""Characters of a sentence that are kept."""


@dataclass(slots=True)
class _Seen:
    """Where a VM stands, as it told last."""

    claim: Claim
    stage: str = ""
    progress: Progress | None = None
    marks: list[tuple[float, float]] = field(default_factory=list)
    last: str = ""
    is_new: bool = False

    @property
    def rate(self) -> float | None:
        (first, from_), (now, to) = self.marks[0], self.marks[-1]
        return (to - from_) / (now - first) if now - first > 1 and to > from_ else None


@dataclass(frozen=True, slots=True)
class _Told:
    at: float
    claim: Claim
    event: Event


class Teller:
    """Takes events from many threads. `watch` sees each at once; `flush` writes them down."""

    def __init__(self, store: Store, watch: Callable[[Claim, Event], None]) -> None:
        self._store = store
        self._watch = watch
        self._lock = threading.Lock()
        self._told: list[_Told] = []
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._sent: dict[str, int] = defaultdict(int)
        self._sampled: dict[str, float] = {}
        with store.read() as connection:
            self._offset = store.now(connection) - time.time()

    def listener(self, claim: Claim) -> Callable[[Event], None]:
        """Return what a VM's run tells its events to."""
        with self._lock:
            self._seen[claim.batch, claim.vm] = _Seen(claim)

        def told(event: Event) -> None:
            self._take(claim, event)
            self._watch(claim, event)

        return told

    def sent(self, batch: str) -> Callable[[int], None]:
        """Return what is told of each piece of so many bytes that is sent."""

        def count(count: int) -> None:
            with self._lock:
                self._sent[batch] += count

        return count

    def _take(self, claim: Claim, event: Event) -> None:
        with self._lock:
            seen = self._seen.setdefault((claim.batch, claim.vm), _Seen(claim))
            seen.is_new = True
            match event:
                case Progress(what=what, done=done):
                    now = time.monotonic()
                    seen.progress = event
                    seen.marks.append((now, done))
                    while len(seen.marks) > 2 and now - seen.marks[0][0] > RATE_S:
                        seen.marks.pop(0)
                    seen.last = what or seen.last
                    return
                case StageBegan(stage=stage):
                    seen.stage, seen.progress, seen.marks = stage, None, []
                case StageDone(summary=summary):
                    seen.last = summary
                case Note(text=text):
                    seen.last = text
            self._told.append(_Told(time.time() + self._offset, claim, event))

    def flush(self) -> None:
        """What was told so far is in the database. A VM that is somebody else's by now is left alone, but for its log."""
        with self._lock:
            told, self._told = self._told, []
            seen = [one for one in self._seen.values() if one.is_new]
            rows = [(one.claim, self._figures(one)) for one in seen]
            for one in seen:
                one.is_new = False
            sent, self._sent = self._sent, defaultdict(int)
        if not (told or rows or sent):
            return
        with self._store.write() as connection:
            now = self._store.now(connection)
            for each in told:
                _write(connection, each)
            vm = tables.VMS.c
            for claim, figures in rows:
                of = sa.and_(vm.batch == claim.batch, vm.id == claim.vm, vm.fence == claim.fence, vm.state == "running")
                connection.execute(tables.VMS.update().where(of).values(**figures, last_at=now))
            for batch, count in sent.items():
                self._sample(connection, batch, count, now)

    def forget(self, claim: Claim) -> None:
        with self._lock:
            self._seen.pop((claim.batch, claim.vm), None)

    @staticmethod
    def _figures(seen: _Seen) -> dict[str, object]:
        progress = seen.progress
        rate = seen.rate if progress and len(seen.marks) > 1 else None
        left = (progress.total - progress.done) / rate if progress and progress.total and rate else None
        return {
            "stage": seen.stage or None,
            "done": progress.done if progress else None,
            "total": progress.total if progress else None,
            "unit": progress.unit if progress else "B",
            "rate": rate,
            "left_s": left,
            "last": shown(seen.last)[:LONGEST],
        }

    def _sample(self, connection: sa.Connection, batch: str, count: int, now: float) -> None:
        of = tables.BATCHES.c.name == batch
        connection.execute(tables.BATCHES.update().where(of).values(sent=tables.BATCHES.c.sent + count))
        if now - self._sampled.get(batch, 0.0) >= SAMPLE_S:
            self._sampled[batch] = now
            total = connection.execute(sa.select(tables.BATCHES.c.sent).where(of)).scalar_one()
            connection.execute(tables.SAMPLES.insert().values(batch=batch, at=now, sent=total))


def _write(connection: sa.Connection, told: _Told) -> None:
    claim = told.claim
    row = {"batch": claim.batch, "vm": claim.vm}
    match told.event:
        case StageBegan(stage=stage):
            connection.execute(
                tables.STAGES.insert().values(**row, name=stage, began=told.at, summary="", worker=claim.worker)
            )
            text, level = f"{stage} begins", "info"
        case StageDone(stage=stage, summary=summary, seconds=seconds):
            there = tables.STAGES.c
            of = sa.and_(there.batch == claim.batch, there.vm == claim.vm, there.name == stage, there.ended.is_(None))
            newest = sa.select(sa.func.max(there.number)).where(of).scalar_subquery()
            connection.execute(
                tables.STAGES.update()
                .where(there.number == newest)
                .values(ended=told.at, summary=shown(summary)[:LONGEST])
            )
            text, level = f"{stage}: {summary} ({seconds:.1f} s)", "info"
        case Note(text=text, level=level):
            pass
        case Progress():
            return
    connection.execute(tables.EVENTS.insert().values(**row, at=told.at, level=level, text=shown(text)[:LONGEST]))
