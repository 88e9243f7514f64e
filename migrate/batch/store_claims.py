"""Who works on which VM: claims are made within the limits, one after the other, and each has a number that no later one has.

A worker that was believed dead and comes back holds a claim whose number is old: nothing that it writes is taken, and since what is made remotely is
written down before, it makes nothing any more.
"""

import json
import threading
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from migrate.batch import store_tables as tables
from migrate.batch.facts import VmState
from migrate.batch.limits import Pace, Place, Running, faster, hindrance, slower
from migrate.batch.model import Limits, PlannedVm, Window
from migrate.batch.store import Store
from migrate.batch.store_facts import paces_of, waiting
from migrate.errors import Reason, Stopped

NO_FIGURES: Mapping[str, Any] = {"stage": None, "done": None, "total": None, "rate": None, "left_s": None}


UNREAD_HINT = (
    "Another version of this program planned it: finish the batch with that one, or run its file under another name."
)


@dataclass(slots=True)
class Claim:
    """One worker's right to act for one VM. `key` names the work; `former` is the key of a dead worker's, which is gone on with.

    `is_undoing`: what the VM made is taken back. `image` is the image's name, where the user chose one; `job`, `job_file`, `ledger` and
    `place` are what is known of its job. `stop` ends the work; `why` says in words why.
    """

    batch: str
    vm: str
    fence: int
    worker: str
    planned: PlannedVm
    attempt: int
    busy: int
    former: str | None
    is_undoing: bool
    image: str | None
    job: str | None
    job_file: str | None
    ledger: tuple[str, ...]
    place: str | None
    stop: threading.Event = field(default_factory=threading.Event)
    why: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    """The window has closed: what runs ends its part."""

    @property
    def key(self) -> str:
        return self.former or f"{self.batch}/{self.vm}/{self.fence}"

    def end(self, why: str) -> None:
        """The work stops as soon as it can."""
        if not self.stop.is_set():
            self.why = why
            self.stop.set()


def claim(store: Store, worker: str, batches: Sequence[str] | None = None) -> Claim | None:
    """Return the VM that this worker is to work on next, which is its own from now on; None where none may start here now.

    The highest priority goes first, then the batch that is older, then the file's order. `batches` are those that are looked at; None: all.
    """
    with store.write(alone=True) as connection:
        now = store.now(connection)
        asked = sa.select(tables.BATCHES).order_by(tables.BATCHES.c.created)
        if batches is not None:
            asked = asked.where(tables.BATCHES.c.name.in_(batches))
        of_all = _running(connection)
        for batch in connection.execute(asked).all():
            while (found := _next(connection, batch, worker, of_all, now)) is not None:
                held = _claimed(connection, found, worker, now)
                if held is not None:
                    return held
    return None


def _running(connection: sa.Connection) -> dict[str, list[Running]]:
    vm = tables.VMS.c
    found: dict[str, list[Running]] = defaultdict(list)
    for one in connection.execute(sa.select(vm.batch, vm.source, vm.target, vm.worker).where(vm.state == "running")):
        found[one.batch].append(Running(one.source, one.target, one.worker))
    return found


def _next(
    connection: sa.Connection, batch: Any, worker: str, of_all: Mapping[str, Sequence[Running]], now: float
) -> Any | None:
    limits = Limits.model_validate_json(batch.limits)
    if sum(one.worker == worker for running in of_all.values() for one in running) >= limits.per_worker:
        return None
    vm = tables.VMS.c
    rows = connection.execute(
        sa.select(vm.batch, vm.id, vm.source, vm.target, vm.not_before, vm.open_window, vm.wanted, vm.state)
        .where(vm.batch == batch.name, vm.state.in_(("waiting", "paused")))
        .order_by(vm.priority.desc(), vm.position)
    ).all()
    paces = paces_of(connection, batch.name)
    windows: dict[str, Window] = {}
    hindered: set[tuple[object, ...]] = set()
    for row in rows:
        if row.wanted == "cancel":
            return row
        if batch.is_paused or row.state != "waiting" or row.wanted != "run":
            continue
        kind = (row.source, row.target, row.not_before, row.open_window)
        if kind in hindered:
            continue
        if row.open_window is not None and row.open_window not in windows:
            windows[row.open_window] = Window.model_validate_json(row.open_window)
        if hindrance(waiting(row, windows), of_all.get(batch.name, ()), limits, paces, worker, now) is None:
            return row
        hindered.add(kind)
    return None


def _claimed(connection: sa.Connection, found: Any, worker: str, now: float) -> Claim | None:
    """The VM, as the worker's. None where this program cannot read what was planned: it has failed then."""
    vm = tables.VMS.c
    of = sa.and_(vm.batch == found.batch, vm.id == found.id)
    row = connection.execute(sa.select(tables.VMS).where(of)).one()
    try:
        planned = PlannedVm.model_validate_json(row.planned)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        words = f"what was planned for it cannot be read ({'.'.join(map(str, first['loc']))}: {first['msg']})"
        unread = {"state": "failed", "wanted": "run", "ended": now, "error": words, "last": words, "last_at": now}
        connection.execute(tables.VMS.update().where(of).values(**unread, hint=UNREAD_HINT))
        return None
    fence, attempt = row.fence + 1, row.attempt or 1
    lines = connection.execute(
        sa.select(tables.LEDGER.c.line)
        .where(tables.LEDGER.c.batch == row.batch, tables.LEDGER.c.vm == row.id)
        .order_by(tables.LEDGER.c.number)
    )
    claimed = Claim(
        batch=row.batch,
        vm=row.id,
        fence=fence,
        worker=worker,
        planned=planned,
        attempt=attempt,
        busy=row.busy,
        former=row.work,
        is_undoing=row.wanted == "cancel",
        image=row.image,
        job=row.job,
        job_file=row.job_file,
        ledger=tuple(one.line for one in lines),
        place=row.place,
    )
    connection.execute(
        tables.VMS.update()
        .where(of)
        .values(
            state="running",
            worker=worker,
            fence=fence,
            attempt=attempt,
            work=claimed.key,
            not_before=None if row.busy else row.not_before,
            began=row.began or now,
            ended=None,
            error=None,
            hint=None,
            reasons=None,
            **NO_FIGURES,
        )
    )
    return claimed


def _of(held: Claim) -> sa.ColumnElement[bool]:
    vm = tables.VMS.c
    return sa.and_(vm.batch == held.batch, vm.id == held.vm, vm.fence == held.fence, vm.state == "running")


def renamed(store: Store, held: Claim, key: str) -> None:
    """The work of a claim runs under another key: a former one had come to its end."""
    with store.write() as connection:
        connection.execute(tables.VMS.update().where(_of(held)).values(work=key))


def check(store: Store, held: Claim) -> None:
    """The claim still holds. Raise Stopped where somebody else has taken its place: what is done from now on is theirs."""
    with store.read() as connection:
        there = connection.execute(sa.select(tables.VMS.c.id).where(_of(held))).first()
    if there is None:
        _lost(held)


def write_line(store: Store, held: Claim, line: str) -> None:
    """A line of the VM's ledger is kept. Raise Stopped where the claim is lost; nothing is written then."""
    with store.write() as connection:
        locked = sa.select(tables.VMS.c.id).where(_of(held)).with_for_update()
        there = connection.execute(locked).first()
        if there is not None:
            connection.execute(tables.LEDGER.insert().values(batch=held.batch, vm=held.vm, line=line))
    if there is None:
        _lost(held)


def keep_job(store: Store, held: Claim, *, name: str, job_file: str, place: str) -> None:
    """What a job's file holds is kept. Raise Stopped where the claim is lost; nothing is written then."""
    with store.write() as connection:
        kept = connection.execute(tables.VMS.update().where(_of(held)).values(job=name, job_file=job_file, place=place))
    if kept.rowcount == 0:
        _lost(held)


def keep_outcome(store: Store, held: Claim, outcome: Mapping[str, object]) -> None:
    """What became of the VM is kept. Raise Stopped where the claim is lost; nothing is written then."""
    there = tables.OUTCOMES.c
    with store.write() as connection:
        locked = connection.execute(sa.select(tables.VMS.c.id).where(_of(held)).with_for_update()).first()
        if locked is not None:
            connection.execute(tables.OUTCOMES.delete().where(there.batch == held.batch, there.vm == held.vm))
            connection.execute(
                tables.OUTCOMES.insert().values(batch=held.batch, vm=held.vm, outcome=json.dumps(outcome))
            )
    if locked is None:
        _lost(held)


def _lost(held: Claim) -> None:
    held.end("another worker has taken its place")
    raise Stopped


def settle(
    store: Store,
    held: Claim,
    state: VmState,
    last: str,
    *,
    error: str | None = None,
    hint: str | None = None,
    reasons: Sequence[Reason] = (),
) -> bool:
    """The VM has come to this end, and nobody works on it. Return whether it was so: not where the claim was lost."""
    with store.write() as connection:
        now = store.now(connection)
        values: dict[str, Any] = {
            "state": state.value,
            "worker": None,
            "work": None,
            "last": last,
            "last_at": now,
            "ended": now if state.is_final else None,
            "error": error,
            "hint": hint,
            "reasons": json.dumps([asdict(one) for one in reasons]) if reasons else None,
            **(
                NO_FIGURES
                if state in (VmState.DONE, VmState.CANCELLED, VmState.WAITING)
                else {"rate": None, "left_s": None}
            ),
        }
        if state is VmState.CANCELLED:
            values |= {"wanted": "run", "job_file": None, "place": None, "job": None}
            gone = tables.LEDGER.c
            connection.execute(tables.LEDGER.delete().where(gone.batch == held.batch, gone.vm == held.vm))
        elif state is VmState.DONE:
            values |= {"wanted": "run", "busy": 0}
        done = connection.execute(tables.VMS.update().where(_of(held)).values(**values)).rowcount == 1
        if done and state is VmState.DONE:
            _quicker(connection, held, now)
        return done


def give_back(store: Store, held: Claim, last: str) -> bool:
    """Nobody works on the VM any more, and it waits: paused where the user wanted that. Return whether it was so."""
    with store.write() as connection:
        now = store.now(connection)
        wanted = connection.execute(sa.select(tables.VMS.c.wanted).where(_of(held))).scalar()
        values: dict[str, Any] = {
            "state": "paused" if wanted == "pause" else "waiting",
            "worker": None,
            "work": None,
            "last": last,
            "last_at": now,
            "rate": None,
            "left_s": None,
        }
        return connection.execute(tables.VMS.update().where(_of(held)).values(**values)).rowcount == 1


def was_busy(store: Store, held: Claim, place: Place, last: str, pause_s: float) -> bool:
    """The VM waits so many seconds, and its source or target is given half as many at once. Return whether the claim still held."""
    name = held.planned.source if place == "source" else held.planned.target
    with store.write(alone=True) as connection:
        now = store.now(connection)
        column = tables.VMS.c[place]
        count = connection.execute(
            sa.select(sa.func.count()).where(
                tables.VMS.c.batch == held.batch, tables.VMS.c.state == "running", column == name
            )
        ).scalar_one()
        _set_pace(
            connection, held.batch, place, name, slower(count, paces_of(connection, held.batch).get((place, name)), now)
        )
        return (
            connection.execute(
                tables.VMS.update()
                .where(_of(held))
                .values(
                    state="waiting",
                    worker=None,
                    work=None,
                    busy=held.busy + 1,
                    not_before=now + pause_s,
                    last=last,
                    last_at=now,
                    **NO_FIGURES,
                )
            ).rowcount
            == 1
        )


def _quicker(connection: sa.Connection, held: Claim, now: float) -> None:
    for (place, name), pace in paces_of(connection, held.batch).items():
        if name == (held.planned.source if place == "source" else held.planned.target):
            _set_pace(connection, held.batch, place, name, faster(pace, now))


def _set_pace(connection: sa.Connection, batch: str, place: Place, name: str, pace: Pace) -> None:
    row = tables.PACES.c
    connection.execute(tables.PACES.delete().where(row.batch == batch, row.place == place, row.name == name))
    connection.execute(
        tables.PACES.insert().values(batch=batch, place=place, name=name, allowed=pace.allowed, changed=pace.changed)
    )


def hand_over(connection: sa.Connection, worker: str, why: str, now: float) -> tuple[str, ...]:
    """What a worker held waits for another one, and the worker's own claims are worth nothing. Return the VMs' ids."""
    vm = tables.VMS.c
    held = sa.and_(vm.worker == worker, vm.state == "running")
    rows = connection.execute(sa.select(vm.batch, vm.id).where(held).with_for_update()).all()
    if not rows:
        return ()
    connection.execute(
        tables.VMS.update()
        .where(held)
        .values(state="waiting", worker=None, fence=vm.fence + 1, last=why, last_at=now, rate=None, left_s=None)
    )
    connection.execute(tables.VMS.update().where(vm.state == "waiting", vm.wanted == "pause").values(state="paused"))
    connection.execute(
        tables.EVENTS.insert(),
        [{"batch": row.batch, "vm": row.id, "at": now, "level": "warning", "text": why} for row in rows],
    )
    return tuple(row.id for row in rows)


def hand_over_but(store: Store, worker: str, held: Collection[tuple[str, str, int]]) -> tuple[str, ...]:
    """What stands as the worker's and is none of the claims (batch, VM, fence) that it holds waits for the next claim. Return the VMs' ids."""
    vm = tables.VMS.c
    mine = sa.select(vm.batch, vm.id, vm.fence).where(vm.worker == worker, vm.state == "running")
    with store.read() as connection:
        lost = [row for row in connection.execute(mine).all() if (row.batch, row.id, row.fence) not in held]
    found = []
    for row in lost:
        of = sa.and_(vm.batch == row.batch, vm.id == row.id, vm.fence == row.fence, vm.state == "running")
        with store.write() as connection:
            values = {"state": "waiting", "worker": None, "work": None, "fence": row.fence + 1, "last": "begins anew"}
            if connection.execute(tables.VMS.update().where(of).values(**values)).rowcount:
                found.append(row.id)
    return tuple(found)


def unfinished(store: Store, batches: Sequence[str] | None) -> int:
    """Return how many VMs have not come to an end, those that are paused not counted."""
    vm = tables.VMS.c
    asked = sa.select(sa.func.count()).where(
        sa.or_(vm.state.in_(("waiting", "running")), sa.and_(vm.state == "paused", vm.wanted == "cancel"))
    )
    with store.read() as connection:
        return int(connection.execute(asked if batches is None else asked.where(vm.batch.in_(batches))).scalar_one())
