"""A worker: takes VMs of its database as limits and windows let it, moves each in a thread of its own, and does what users ask meanwhile.

One VM's failure, whatever it is, ends that VM. What is done is kept at each stage: a worker that is killed loses what one stage did since its last
checkpoint, and another one, or this one when it is started again, goes on.
"""

import os
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

import sqlalchemy as sa

from migrate.batch import store_claims as claims
from migrate.batch import store_tables as tables
from migrate.batch.durable import Durable, Step, dbos_durable
from migrate.batch.events import Teller
from migrate.batch.facts import VmState, reason_of
from migrate.batch.limits import Place
from migrate.batch.model import Window
from migrate.batch.runner_jobs import carried, is_locked
from migrate.batch.runner_moves import Mover
from migrate.batch.store import Store
from migrate.batch.store_claims import Claim
from migrate.batch.windows import closes
from migrate.batch.workers import LEASE_S, Membership, joined, reap
from migrate.errors import (
    MigrateError,
    NotMigratable,
    ProofFailed,
    Reason,
    SourceBusy,
    Stopped,
    TargetBusy,
    UsageError,
)
from migrate.job import SCRATCH, Job
from migrate.outcome import JsonObject
from migrate.run import Event, Note, Run, StageBegan, StageDone
from migrate.text import shown

TICK_S = 0.5
"""How long a request from another terminal takes at most to be seen."""
LOOK_S = 1.0
"""How often it is looked whether a VM may start where nothing else happened."""
FLUSH_S = 0.5
END_S = 20.0
"""How long running VMs are given to stop at their checkpoints when the worker ends."""

BUSY_TRIES = 8
BUSY_S, LONGEST_BUSY_S = 15.0, 600.0
"""How long a VM waits whose source or target was busy: twice as long each time."""
LOCKED_S = 5.0

PARTS_ANYWHERE = frozenset({"transfer", "import"})
"""Stages that keep what they have done so far: they end at once when a window closes, others at their end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`batches`: which are worked on, None for all. `until_done`: end once nothing of them is left to do. Times in seconds."""

    batches: tuple[str, ...] | None = None
    until_done: bool = False
    lease_s: float = LEASE_S
    busy_s: float = BUSY_S


@dataclass(frozen=True, slots=True)
class Ended:
    """How running ended: `left` VMs did not stop in time, and end with the process."""

    left: tuple[str, ...]


class Runner:
    """Make it with `running_worker`."""

    def __init__(
        self,
        run: Run,
        store: Store,
        member: Membership,
        work: Path,
        mover: Mover,
        settings: Settings,
        watch: Callable[[Claim, Event], None],
    ) -> None:
        self._run = run
        self._store = store
        self._member = member
        self._work = work
        self._mover = mover
        self._settings = settings
        self._held: dict[str, Claim] = {}
        self._begun: set[str] = set()
        """Keys of work whose thread has not ended here: one that lost its claim may still be stopping."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._teller = Teller(store, watch)
        self._is_sick = False

    @property
    def steps(self) -> tuple[Step, ...]:
        return (Step("move", self._moved), Step("settle", self._settled))

    def work_until_told(self, durable: Durable) -> Ended:
        """Run VMs until the user stops the run, or until nothing is left to do where that was wanted."""
        looked = flushed = 0.0
        while not self._run.stop.is_set():
            now = time.monotonic()
            with self._patient():
                self._obey()
                if now - flushed >= FLUSH_S:
                    self._teller.flush()
                    flushed = now
                if self._wake.is_set() or now - looked >= LOOK_S:
                    self._wake.clear()
                    self._reap()
                    self._start_what_may(durable)
                    looked = time.monotonic()
                    if self._settings.until_done and self._is_done():
                        break
            self._wake.wait(TICK_S)
        return self._ended()

    # What runs

    def _start_what_may(self, durable: Durable) -> None:
        while not self._run.stop.is_set():
            held = claims.claim(self._store, self._member.id, self._settings.batches)
            if held is None:
                return
            former = held.former
            if former is not None and (former in self._begun or not durable.can_go_on(former)):
                held.former = None
                claims.renamed(self._store, held, held.key)
            with self._lock:
                self._held[held.key] = held
                self._begun.add(held.key)
            try:
                durable.begin(held.key)
            except sa.exc.DBAPIError:
                self._let_go(held)
                claims.give_back(self._store, held, "the database did not answer")
                raise

    def _moved(self, key: str, _: JsonObject) -> JsonObject:
        """The VM's work; return how it ended. Nothing that can go wrong in it concerns another VM."""
        held = self._held.get(key)
        if held is None:
            return {"ended": "nobody's"}
        with tempfile.TemporaryDirectory(prefix="mm-", dir=SCRATCH, ignore_cleanup_errors=True) as scratch:
            run = Run(Path(scratch), self._listener(held), held.stop)
            try:
                return self._taken_back(run, held) if held.is_undoing else self._migrated(run, held)
            except Stopped:
                return {"ended": "stopped"}
            except UsageError as error:
                return {"ended": "locked"} if is_locked(error) else _failed(error)
            except NotMigratable as refusal:
                return {
                    "ended": "refused",
                    "error": refusal.message,
                    "reasons": [_plain(one) for one in refusal.reasons],
                }
            except (SourceBusy, TargetBusy) as error:
                place = "source" if isinstance(error, SourceBusy) else "target"
                return {**_failed(error), "ended": "stopped" if held.stop.is_set() else "busy", "place": place}
            except MigrateError as error:
                if held.stop.is_set():  # what it was doing broke because it was ended
                    return {"ended": "stopped"}
                return self._failed(held, error)
            except sa.exc.DBAPIError:
                held.end("the database did not answer")
                return {"ended": "stopped"}
            except Exception as bug:  # noqa: BLE001 - the last edge: a fault of ours, or a disk that is full, ends this VM and no other
                return {"ended": "stopped"} if held.stop.is_set() else _fault(run, bug)

    def _migrated(self, run: Run, held: Claim) -> JsonObject:
        request = held.planned.request
        job = carried(self._store, held, self._mover.job(run, request, self._work), self._member.place)
        outcome = self._mover.move(run, job, request, self._work, self._teller.sent(held.batch))
        claims.keep_outcome(self._store, held, outcome.to_json())
        name = outcome.imported.name if outcome.imported else None
        return {"ended": "done", "last": f"image {name} is {outcome.status}"}

    def _taken_back(self, run: Run, held: Claim) -> JsonObject:
        with run.stage("clean") as stage:
            if held.job is not None:
                folder = self._work / "jobs" / held.job
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._mover.take_back(run, carried(self._store, held, Job(folder), self._member.place), self._work)
            stage.summary = "what it made is taken back"
        return {"ended": "taken back"}

    def _failed(self, held: Claim, error: MigrateError) -> JsonObject:
        if isinstance(error, ProofFailed) and error.proof is not None:
            with suppress(Stopped):
                claims.keep_outcome(self._store, held, {"status": "failed", "proof": error.proof})
        return _failed(error)

    def _settled(self, key: str, said: JsonObject) -> JsonObject:
        """How the VM's work ended is in its row. A second call finds that it is."""
        held = self._held.get(key)
        if held is None or said.get("ended") == "nobody's":
            return said
        while True:
            try:
                self._settle(held, said)
                break
            except sa.exc.DBAPIError:
                if self._member.is_lost:  # whoever takes over finds what was done
                    break
                time.sleep(1.0)
        self._let_go(held)
        self._teller.forget(held)
        self._wake.set()
        return said

    def _let_go(self, held: Claim) -> None:
        with self._lock:
            self._begun.discard(held.key)
            if self._held.get(held.key) is held:
                del self._held[held.key]

    def _settle(self, held: Claim, said: JsonObject) -> None:
        error, hint = _text(said, "error"), _text(said, "hint")
        with suppress(
            sa.exc.DBAPIError
        ):  # the next tick does it, or, where the database stays away, whoever takes over
            self._teller.flush()
        store = self._store
        if error is not None and said["ended"] != "refused":
            self._teller.listener(held)(Note(error, "error"))
        match said["ended"]:
            case "done":
                claims.settle(store, held, VmState.DONE, _text(said, "last") or "")
            case "refused":
                reasons = [reason_of(one) for one in cast(list[JsonObject], said["reasons"])]
                last = "; ".join(f"{one.code} {one.text}" for one in reasons)
                claims.settle(store, held, VmState.REFUSED, last, error=error, reasons=reasons)
            case "busy" if held.busy + 1 < BUSY_TRIES:
                pause = min(self._settings.busy_s * 2**held.busy, LONGEST_BUSY_S)
                claims.was_busy(store, held, cast(Place, said["place"]), f"{error} Trying again.", pause)
            case "taken back":
                claims.settle(store, held, VmState.CANCELLED, "cancelled; what it made is taken back")
            case "stopped":
                claims.give_back(store, held, held.why or "stopped")
            case "locked":
                time.sleep(LOCKED_S)
                claims.give_back(store, held, "another process of this host still holds its job")
            case _:
                claims.settle(store, held, VmState.FAILED, error or "", error=error, hint=hint)

    def _listener(self, held: Claim) -> Callable[[Event], None]:
        tell = self._teller.listener(held)

        def told(event: Event) -> None:
            tell(event)
            if isinstance(event, StageBegan):
                if held.closing.is_set():
                    held.end("its window has closed")
                    raise Stopped
                claims.check(self._store, held)  # before anything is done that others could see
            elif isinstance(event, StageDone) and held.closing.is_set():
                held.end("its window has closed")

        return told

    # What is asked

    def _obey(self) -> None:
        """What users asked of the VMs that run here, closed windows, and claims that are lost."""
        with self._lock:
            held = tuple(self._held.values())
        if not held:
            return
        if self._member.is_lost:
            for one in held:
                one.end("this worker could not say that it lives")
            return
        vm = tables.VMS.c
        asked = (
            sa.select(vm.batch, vm.id, vm.fence, vm.wanted, vm.stage, vm.open_window, tables.BATCHES.c.is_paused)
            .join(tables.BATCHES, tables.BATCHES.c.name == vm.batch)
            .where(vm.worker == self._member.id, vm.state == "running")
        )
        with self._store.read() as connection:
            now = datetime.fromtimestamp(self._store.now(connection), UTC)
            rows = {(row.batch, row.id, row.fence): row for row in connection.execute(asked)}
        for one in held:
            row = rows.get((one.batch, one.vm, one.fence))
            if row is None:
                with self._lock:
                    is_settled = one.key not in self._held
                if not is_settled and not self._is_settling(one):
                    one.end("another worker has taken its place")
            elif one.is_undoing:
                continue
            elif row.wanted == "cancel":
                one.end("cancelled")
            elif row.wanted == "pause" or row.is_paused:
                one.end("paused")
            elif row.open_window is not None and closes(Window.model_validate_json(row.open_window), now) is None:
                one.closing.set()
                if row.stage in PARTS_ANYWHERE:
                    one.end("its window has closed")

    def _is_settling(self, held: Claim) -> bool:
        """Whether its row has just been written by ourselves."""
        vm = tables.VMS.c
        with self._store.read() as connection:
            fence = connection.execute(sa.select(vm.fence).where(vm.batch == held.batch, vm.id == held.vm)).scalar()
        return fence == held.fence

    def _reap(self) -> None:
        """VMs of dead workers wait for others, and so does one that stands as ours and that nobody here works on."""
        with self._lock:
            held = {(one.batch, one.vm, one.fence) for one in self._held.values()}
        for vm in claims.hand_over_but(self._store, self._member.id, held):
            self._run.tell(Note(f"{shown(vm)}: nobody works on it; it waits", "warning"))
        for vm in reap(self._store):
            self._run.tell(Note(f"{shown(vm)}: its worker is gone; another one goes on", "warning"))

    def _is_done(self) -> bool:
        with self._lock:
            if self._held:
                return False
        return claims.unfinished(self._store, self._settings.batches) == 0

    # What goes wrong

    @contextmanager
    def _patient(self) -> Iterator[None]:
        """A database that is away for a while ends nothing: claims hold until the lease has run out."""
        try:
            yield
        except (sa.exc.OperationalError, sa.exc.InterfaceError) as error:
            if not self._is_sick:
                self._is_sick = True
                said = str(error.orig).strip().splitlines()[0]
                self._run.tell(Note(f"the database does not answer ({shown(said)}); trying again", "warning"))
            self._run.stop.wait(1.0)
        else:
            self._is_sick = False

    def heartbeat(self, ended: threading.Event) -> None:
        """Say that this worker lives until `ended` is set. Where others believed it dead, what it holds stops, and it begins anew."""
        while not ended.wait(self._member.lease_s / 5):
            try:
                if not self._member.renew():
                    self._end_all("this worker was believed dead")
                    self._member.rejoin()
            except sa.exc.DBAPIError:
                if self._member.is_lost:
                    self._end_all("this worker could not say that it lives")

    def _end_all(self, why: str) -> None:
        with self._lock:
            held = tuple(self._held.values())
        for one in held:
            one.end(why)

    def _ended(self) -> Ended:
        self._end_all(f"worker {self._member.id} ended")
        deadline = time.monotonic() + END_S
        while self._held and time.monotonic() < deadline:
            time.sleep(0.05)
        with self._patient():
            self._teller.flush()
        with self._lock:
            return Ended(tuple(one.vm for one in self._held.values()))


def nobody_watches(claim: Claim, event: Event) -> None:
    pass


def run_worker(
    run: Run,
    store: Store,
    work: Path,
    mover: Mover,
    settings: Settings,
    watch: Callable[[Claim, Event], None] = nobody_watches,
    ready: Callable[[Membership], None] = lambda member: None,
) -> Ended:
    """Be a worker of a database until the user stops the run, or until nothing is left to do.

    VMs that did not stop in time are told; they end with the process, which should then end by `os._exit`: DBOS waits for them.
    """
    with ExitStack() as stack:
        member = stack.enter_context(joined(store, work, settings.lease_s))
        runner = Runner(run, store, member, work, mover, settings, watch)
        ended = threading.Event()
        beat = threading.Thread(target=runner.heartbeat, args=(ended,), name="heartbeat", daemon=True)
        beat.start()
        stack.callback(beat.join)
        stack.callback(ended.set)
        with ExitStack() as inner:
            durable = inner.enter_context(dbos_durable(store.url, member.id, runner.steps))
            ready(member)
            found = runner.work_until_told(durable)
            if found.left:
                inner.pop_all()  # it would wait for them
        return found


def end_process(code: int) -> None:
    """The process is gone, now, and with it its children: threads that did not stop are not waited for."""
    os._exit(code)


def _failed(error: MigrateError) -> JsonObject:
    return {"ended": "failed", "error": error.message, "hint": error.hint}


def _fault(run: Run, bug: Exception) -> JsonObject:
    """A fault of this program, by its place. Its own words are not kept: nobody knows what they hold."""
    frames = [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(bug.__traceback__)
    ]
    what = f"{type(bug).__name__} in {' < '.join(reversed(frames[-4:]))}"
    if isinstance(bug, OSError) and bug.strerror:
        what = f"{bug.strerror} ({bug.filename})" if bug.filename else bug.strerror
        return {
            "ended": "failed",
            "error": what,
            "hint": "Check that the work folder may be written and has room, then: batch retry.",
        }
    return {
        "ended": "failed",
        "error": f"a fault of this program: {what}",
        "hint": "Please report it; other VMs go on.",
    }


def _plain(reason: Reason) -> JsonObject:
    return {"code": reason.code, "text": reason.text, "remedy": reason.remedy, "details": list(reason.details)}


def _text(said: JsonObject, name: Literal["error", "hint", "last"]) -> str | None:
    value = said.get(name)
    return None if value is None else str(value)
