"""What is known of a batch, read from its database: the one answer that status, report and dashboard show."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, cast

import sqlalchemy as sa

from migrate.batch import store_tables as tables
from migrate.batch.facts import BatchFacts, EventFacts, Sample, StageFacts, VmFacts, VmState, WorkerFacts, reason_of
from migrate.batch.limits import Pace, Paces, Place, Running, Waiting, hindrance
from migrate.batch.model import Limits, Window
from migrate.batch.store import Store, check_batch
from migrate.batch.windows import closes
from migrate.errors import Reason
from migrate.outcome import JsonObject

MOST_SAMPLES = 500
Row = sa.Row[Any]


def facts(store: Store, batch: str, *, outcomes: bool = True, stages: bool | None = None) -> BatchFacts:
    """Return what is known of a batch now. Raise UsageError where there is none of this name.

    Without `outcomes` each VM's outcome and stages are left out, which a table of 500 rows does not need; `stages` asks for the latter alone.
    """
    with store.read() as connection:
        now = store.now(connection)
        row = check_batch(connection, batch)
        limits = Limits.model_validate_json(row.limits)
        vm = tables.VMS.c
        rows = connection.execute(
            sa.select(*(column for column in vm if column.name not in ("planned", "job_file")))
            .where(vm.batch == batch)
            .order_by(vm.position)
        ).all()
        paces = paces_of(connection, batch)
        workers = connection.execute(sa.select(tables.WORKERS).order_by(tables.WORKERS.c.id)).all()
        samples = connection.execute(
            sa.select(tables.SAMPLES.c.at, tables.SAMPLES.c.sent)
            .where(tables.SAMPLES.c.batch == batch)
            .order_by(tables.SAMPLES.c.number)
        ).all()
        found = _outcomes(connection, batch) if outcomes else {}
        run = _stages(connection, batch) if (outcomes if stages is None else stages) else {}
    running = tuple(Running(one.source, one.target, one.worker) for one in rows if one.state == "running")
    windows: dict[str, Window] = {}
    for one in rows:
        if one.open_window and one.open_window not in windows:
            windows[one.open_window] = Window.model_validate_json(one.open_window)
    vms = tuple(
        _vm(one, found.get(one.id), tuple(run.get(one.id, ())), _waits_for(one, row.is_paused, why))
        for one, why in _hindered(rows, windows, running, limits, paces, now)
    )
    held = defaultdict(list)
    for one in rows:
        if one.state == "running":
            held[one.worker].append(one.id)
    moment = datetime.fromtimestamp(now, UTC)
    open_until = [
        closing
        for one in rows
        if one.open_window and not VmState(one.state).is_final
        if (closing := closes(windows[one.open_window], moment)) is not None
    ]
    return BatchFacts(
        name=batch,
        at=moment,
        created=_time(row.created),
        is_paused=row.is_paused,
        vms=vms,
        workers=tuple(
            WorkerFacts(one.id, one.host, _time(one.seen), one.until > now, tuple(held.get(one.id, ())))
            for one in workers
        ),
        samples=_thinned([Sample(_time(one.at), one.sent) for one in samples]),
        window_closes=min(open_until, default=None),
    )


def outcome(store: Store, batch: str, vm: str) -> JsonObject | None:
    """Return the outcome of one VM; None where none is known."""
    of = tables.OUTCOMES.c
    with store.read() as connection:
        found = connection.execute(sa.select(of.outcome).where(of.batch == batch, of.vm == vm)).scalar()
    return None if found is None else cast(JsonObject, json.loads(found))


def events(
    store: Store, batch: str, vm: str | None = None, after: int = 0, last: int | None = None
) -> tuple[tuple[int, EventFacts], ...]:
    """Return a batch's log, or one VM's, each line with its number, in order: those after a number, of these the `last` ones."""
    event = tables.EVENTS.c
    asked = sa.select(tables.EVENTS).where(event.batch == batch, event.number > after).order_by(event.number.desc())
    if vm is not None:
        asked = asked.where(event.vm == vm)
    if last is not None:
        asked = asked.limit(last)
    with store.read() as connection:
        check_batch(connection, batch)
        rows = connection.execute(asked).all()
    return tuple((one.number, EventFacts(_time(one.at), one.vm, one.level, one.text)) for one in reversed(rows))


def to_json(found: BatchFacts) -> JsonObject:
    """Return the facts as JSON values: times as ISO 8601, states as words."""
    return cast(JsonObject, json.loads(json.dumps({**asdict(found), "counts": _counts(found)}, default=_plain)))


def _counts(found: BatchFacts) -> dict[str, int]:
    return {state.value: found.counts.get(state, 0) for state in VmState}


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, VmState):
        return value.value
    raise TypeError(type(value).__name__)


def paces_of(connection: sa.Connection, batch: str) -> Paces:
    """Return how many at once the places that were busy are given."""
    rows = connection.execute(sa.select(tables.PACES).where(tables.PACES.c.batch == batch))
    return {(cast(Place, one.place), one.name): Pace(one.allowed, one.changed) for one in rows}


def waiting(row: Any, windows: Mapping[str, Window]) -> Waiting:
    """Return a VM's row as what limits ask about."""
    return Waiting(
        row.source, row.target, row.not_before, windows[row.open_window] if row.open_window is not None else None
    )


def _hindered(
    rows: Sequence[Row],
    windows: Mapping[str, Window],
    running: Sequence[Running],
    limits: Limits,
    paces: Paces,
    now: float,
) -> Iterator[tuple[Row, str]]:
    """Yield each VM with what keeps it from starting; what many share is found out once."""
    known: dict[Waiting, str] = {}
    for one in rows:
        if one.state != "waiting":
            yield one, ""
            continue
        vm = waiting(one, windows)
        if vm not in known:
            known[vm] = hindrance(vm, running, limits, paces, None, now) or ""
        yield one, known[vm]


def _waits_for(row: Row, is_paused: bool, why: str) -> str:
    match row.state, row.wanted:
        case "running", "pause":
            return "is about to pause"
        case (("running" | "waiting" | "paused"), "cancel"):
            return "what it made is about to be taken back"
        case "waiting", _:
            return "the batch is paused" if is_paused else why or "a worker"
    return ""


def _vm(row: Row, outcome: JsonObject | None, stages: tuple[StageFacts, ...], waits_for: str) -> VmFacts:
    runs = row.state == "running"
    return VmFacts(
        id=row.id,
        name=row.id,
        address=row.address,
        image=row.image,
        state=VmState(row.state),
        priority=row.priority,
        waits_for=waits_for,
        stage=row.stage,
        done=row.done,
        total=row.total,
        unit=row.unit,
        rate=row.rate if runs else None,
        left_s=row.left_s if runs else None,
        last=row.last,
        last_at=_time(row.last_at) if row.last_at is not None else None,
        worker=row.worker,
        attempt=row.attempt,
        began=_time(row.began) if row.began is not None else None,
        ended=_time(row.ended) if row.ended is not None else None,
        disk_bytes=row.disk_bytes,
        error=row.error,
        hint=row.hint,
        reasons=_reasons(row.reasons),
        outcome=outcome,
        job=row.job,
        stages=stages,
    )


def _reasons(text: str | None) -> tuple[Reason, ...]:
    return tuple(map(reason_of, json.loads(text or "[]")))


def _outcomes(connection: sa.Connection, batch: str) -> dict[str, JsonObject]:
    rows = connection.execute(sa.select(tables.OUTCOMES).where(tables.OUTCOMES.c.batch == batch))
    return {one.vm: json.loads(one.outcome) for one in rows}


def _stages(connection: sa.Connection, batch: str) -> dict[str, list[StageFacts]]:
    found: dict[str, list[StageFacts]] = defaultdict(list)
    rows = connection.execute(
        sa.select(tables.STAGES).where(tables.STAGES.c.batch == batch).order_by(tables.STAGES.c.number)
    )
    for one in rows:
        ended = _time(one.ended) if one.ended is not None else None
        found[one.vm].append(StageFacts(one.name, _time(one.began), ended, one.summary, one.worker))
    return found


def _thinned(samples: list[Sample]) -> tuple[Sample, ...]:
    """As many samples as a chart can show, the last one always among them."""
    step = -(-len(samples) // MOST_SAMPLES) or 1
    return tuple(samples[::step] + (samples[-1:] if (len(samples) - 1) % step else []))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
