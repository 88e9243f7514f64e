"""Batches run: killed at each moment, on one host and on several; stopped and steered from another terminal. Real pipeline, tiny VMs.

`python -m fixtures.batches` runs the same at full size.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from datetime import time as clock
from pathlib import Path

import pytest

from adapters.sandbox import Sandbox, sandbox
from fixtures.batches.kills import LIMITS, kill_workers
from fixtures.batches.postgres import postgres
from fixtures.batches.tiny import Cloud, TinyMover
from fixtures.batches.trial import planned, wrong_in
from migrate.batch import control
from migrate.batch import store_tables as tables
from migrate.batch.facts import VmFacts, VmState
from migrate.batch.model import Batch, Limits, PlannedVm, Window
from migrate.batch.runner import Settings, run_worker
from migrate.batch.runner_moves import Mover
from migrate.batch.store import Store, open_store
from migrate.batch.store_facts import events, facts
from migrate.batch.workers import reap
from migrate.job import Job
from migrate.outcome import Outcome
from migrate.run import Run
from migrate.wiring.request import VmRequest

pytestmark = pytest.mark.slow

POINTS = (
    "describe:began",
    "freeze:written",
    "freeze:made",
    "remediate:began",
    "remediate:inside",
    "transfer:began",
    "transfer:inside",
    "import:began",
    "import:written",
    "import:ordered",
    "import:told",
    "import:active",
    "import:discarded",
    "release:done",
)
"""Where a process kills itself: each stage's beginning, which is the boundary to the one before, and inside each stage."""


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("tiny")
    with sandbox(Run(folder), folder / "sandbox") as opened:
        yield opened


@pytest.fixture
def cloud(box: Sandbox) -> Cloud:
    return Cloud(box.folder.parent)


def test_killed_at_each_boundary_and_inside_each_stage_the_next_run_ends_the_same(
    box: Sandbox, cloud: Cloud, tmp_path: Path
) -> None:
    with open_store(None, tmp_path) as store:
        names = [f"killed-{number:02}" for number in range(len(POINTS))]
        store.submit(Batch(name="killed", vms=planned(*names), limits=Limits(per_worker=1)))
        kills = [f"--kill-at={name}={point}" for name, point in zip(names, POINTS, strict=True)]
        words = [sys.executable, "-m", "fixtures.batches.worker", str(cloud.folder), str(tmp_path), "--respawn", *kills]
        done = subprocess.run(words, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("killed") == len(POINTS)
        assert cloud.killed() == tuple(sorted(POINTS))
        found = facts(store, "killed")
        assert wrong_in(cloud, box, store, names) == []
    assert {vm.id: vm.state for vm in found.vms} == dict.fromkeys(names, VmState.DONE)
    order = ["describe", "freeze", "remediate", "transfer", "import"]
    for name, point in zip(names, POINTS, strict=True):
        stage = point.partition(":")[0] if not point.startswith("release") else "import"
        before = order[2 : order.index(stage)]
        if point in ("import:told", "import:active", "import:discarded", "release:done"):
            before = order[2:4]
        ended = cloud.ended(name)
        assert [ended.count(one) for one in before] == [1] * len(before), (name, point, ended)


def test_three_workers_on_postgresql_lose_and_double_nothing_when_they_are_killed(
    box: Sandbox, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"shared-{number:02}" for number in range(20)]
    with postgres() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        with open_store(server.url, tmp_path) as store:
            seen = kill_workers(
                cloud,
                store,
                planned(*names, sources=2),
                tmp_path,
                database=server.url,
                environment=server.environment,
                kills=2,
                lease_s=4.0,
                slow=0.5,
                seed=6,
                timeout=300.0,
            )
            found = facts(store, "kills")
            assert wrong_in(cloud, box, store, names) == []
    assert {vm.id: vm.state for vm in found.vms} == dict.fromkeys(names, VmState.DONE)
    assert seen.overall <= (LIMITS.overall or 0)
    assert seen.per_source <= (LIMITS.per_source or 0)
    assert max(seen.taken_over) < 60.0
    assert sum(seen.held) > 0


# One worker in this process, steered from another one's point of view: through the database alone.


@dataclass(frozen=True, slots=True)
class Steered:
    """A worker that runs in a thread, and the database through which it is asked."""

    store: Store
    cloud: Cloud

    def of(self, vm: str) -> VmFacts:
        return next(one for one in facts(self.store, "b").vms if one.id == vm)

    def wait_for(self, what: Callable[[], bool], within: float = 60.0) -> float:
        """Return how long it took until that held, in seconds."""
        began = time.monotonic()
        while not what():
            assert time.monotonic() - began < within, [
                (one.id, one.state, one.stage, one.last) for one in facts(self.store, "b").vms
            ]
            time.sleep(0.02)
        return time.monotonic() - began

    def state(self, vm: str, state: VmState) -> Callable[[], bool]:
        return lambda: self.of(vm).state is state

    def stage(self, vm: str, stage: str) -> Callable[[], bool]:
        return lambda: self.of(vm).stage == stage


@contextmanager
def steered(
    cloud: Cloud, work: Path, *vms: PlannedVm, mover: Mover | None = None, per_worker: int = 2, lease_s: float = 40.0
) -> Iterator[Steered]:
    stop = threading.Event()
    failures: list[BaseException] = []
    with open_store(None, work) as store:
        store.submit(Batch(name="b", vms=vms, limits=Limits(per_worker=per_worker)))

        def work_on() -> None:
            try:
                run_worker(
                    Run(work, stop=stop), store, work, mover or TinyMover(cloud), Settings(busy_s=0.1, lease_s=lease_s)
                )
            except BaseException as error:  # noqa: BLE001 - it is raised in the test
                failures.append(error)

        thread = threading.Thread(target=work_on)
        thread.start()
        try:
            yield Steered(store, cloud)
        finally:
            stop.set()
            thread.join()
    assert failures == []


def test_a_running_vm_is_paused_within_five_seconds_and_goes_on(box: Sandbox, cloud: Cloud, tmp_path: Path) -> None:
    slow = Cloud(cloud.folder, slow=0.5)
    with steered(slow, tmp_path, *planned("paused-1")) as at:
        at.wait_for(at.stage("paused-1", "transfer"))
        control.pause(at.store, "b", ["paused-1"])
        assert at.wait_for(at.state("paused-1", VmState.PAUSED)) < 5.0
        assert cloud.read_now() == ()
        control.resume(at.store, "b", ["paused-1"])
        at.wait_for(at.state("paused-1", VmState.DONE))
        assert wrong_in(cloud, box, at.store, ["paused-1"]) == []
    assert cloud.ended("paused-1").count("remediate") == 1


def test_a_cancelled_vm_ends_within_five_seconds_and_what_it_made_is_taken_back(cloud: Cloud, tmp_path: Path) -> None:
    slow = Cloud(cloud.folder, slow=0.5)
    with steered(slow, tmp_path, *planned("gone-1", "gone-2"), per_worker=1) as at:
        at.wait_for(at.stage("gone-1", "transfer"))
        assert [name.partition("@")[0] for name in cloud.snapshots()] == ["gone-1"]
        assert control.cancel(at.store, "b") == (1, 1)
        at.wait_for(lambda: cloud.read_now() == (), within=5.0)
        at.wait_for(at.state("gone-1", VmState.CANCELLED))
        assert cloud.snapshots() == ()
        assert at.of("gone-2").attempt == 0
        assert "what it made is taken back" in at.of("gone-1").last


def test_a_closed_window_ends_what_runs_at_a_checkpoint_and_it_waits(cloud: Cloud, tmp_path: Path) -> None:
    slow = Cloud(cloud.folder, slow=0.5)
    with steered(slow, tmp_path, *planned("night-1")) as at:
        at.wait_for(at.stage("night-1", "transfer"))
        held = at.of("night-1").worker
        closed = Window(opens=clock(12), closes=clock(12, 1), days=((datetime.now(UTC).weekday() + 3) % 7,))
        _set_window(at, closed)
        at.wait_for(at.state("night-1", VmState.WAITING))
        assert held is not None
        assert at.of("night-1").last == "its window has closed"
        assert at.of("night-1").waits_for.startswith("window opens ")


def _set_window(at: Steered, window: Window) -> None:
    """Of the VM that runs, too: as if it were that late."""
    with at.store.write() as connection:
        connection.execute(tables.VMS.update().values(open_window=window.model_dump_json()))


@dataclass(frozen=True, slots=True)
class Faulty:
    """A mover with a bug that shows at VMs whose name begins with "bug"."""

    inner: TinyMover

    def job(self, run: Run, request: VmRequest, work: Path) -> Job:
        return self.inner.job(run, request, work)

    def move(self, run: Run, job: Job, request: VmRequest, work: Path, sent: Callable[[int], object]) -> Outcome:
        if "bug" in request.address:
            raise KeyError("https://bucket/key?X-Amz-Signature=planted-4f1c")
        return self.inner.move(run, job, request, work, sent)

    def take_back(self, run: Run, job: Job, work: Path) -> None:
        self.inner.take_back(run, job, work)


def test_one_vms_bug_busy_cloud_or_taken_name_is_no_others_business(box: Sandbox, cloud: Cloud, tmp_path: Path) -> None:
    cloud.make_busy("busy-1", 2)
    twins = planned("fine-1", "twin-1")
    twin = twins[1].model_copy(update={"request": twins[1].request.model_copy(update={"name": "fine-1"})})
    with steered(cloud, tmp_path, *planned("bug-1", "busy-1"), twins[0], mover=Faulty(TinyMover(cloud))) as at:
        for vm in ("busy-1", "fine-1"):
            at.wait_for(at.state(vm, VmState.DONE))
        at.store.add("b", [twin])
        at.wait_for(at.state("twin-1", VmState.REFUSED))
        assert [one.code for one in at.of("twin-1").reasons] == ["MGC-004"]
        assert control.retry(at.store, "b", ["twin-1"], "twin-1") == 1
        at.wait_for(at.state("twin-1", VmState.DONE))
        bug = at.of("bug-1")
        assert bug.state is VmState.FAILED
        assert "a fault of this program: KeyError in test_batch_run.py" in (bug.error or "")
        assert wrong_in(cloud, box, at.store, ["busy-1", "fine-1", "twin-1"]) == []
        told = "\n".join(one.text for _, one in events(at.store, "b"))
        assert told.count("the cloud is busy") == 2
        assert "planted" not in told


def test_a_worker_that_was_believed_dead_while_it_worked_begins_anew_and_does_nothing_twice(
    box: Sandbox, cloud: Cloud, tmp_path: Path
) -> None:
    slow = Cloud(cloud.folder, slow=0.3)
    with steered(slow, tmp_path, *planned("stalled-1", "stalled-2"), lease_s=10.0) as at:
        for vm in ("stalled-1", "stalled-2"):
            at.wait_for(at.stage(vm, "transfer"))
        with at.store.write() as connection:
            connection.execute(tables.WORKERS.update().values(until=1.0))
        assert sorted(reap(at.store)) == ["stalled-1", "stalled-2"]
        for vm in ("stalled-1", "stalled-2"):
            at.wait_for(at.state(vm, VmState.DONE), within=120.0)
        assert wrong_in(cloud, box, at.store, ["stalled-1", "stalled-2"]) == []


def test_a_worker_that_is_stopped_leaves_everything_to_the_next(box: Sandbox, cloud: Cloud, tmp_path: Path) -> None:
    slow = Cloud(cloud.folder, slow=0.5)
    with steered(slow, tmp_path, *planned("next-1")) as at:
        at.wait_for(at.stage("next-1", "transfer"))
    assert cloud.read_now() == ()
    with steered(cloud, tmp_path) as at:
        at.wait_for(at.state("next-1", VmState.DONE))
        assert at.of("next-1").outcome is not None
        assert wrong_in(cloud, box, at.store, ["next-1"]) == []
    assert cloud.ended("next-1").count("remediate") == 1
