"""What a runner does with one VM: find its job, move it, take back what it made."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from migrate.errors import MigrateError
from migrate.job import Job
from migrate.outcome import Outcome
from migrate.run import Note, Run
from migrate.wiring.guests import Host
from migrate.wiring.migration import job_of, migrate_vm, take_back_job
from migrate.wiring.request import VmRequest
from migrate.wiring.sources import is_of_source
from migrate.wiring.targets import kept_sandbox


class Mover(Protocol):
    """Moves VMs. Safe from several threads; each `run` has a folder of its own."""

    def job(self, run: Run, request: VmRequest, work: Path) -> Job:
        """Return the job of a request, as migrate.wiring.migration.job_of."""

    def move(self, run: Run, job: Job, request: VmRequest, work: Path, sent: Callable[[int], object]) -> Outcome:
        """Bring the job to its end; `sent` is told of each piece that goes. As migrate.wiring.migration.migrate_vm."""

    def take_back(self, run: Run, job: Job, work: Path) -> None:
        """What the job made is gone, and its folder. Raise MigrateError where something could not be taken back; the job still knows of it then."""


@contextmanager
def wired_mover() -> Iterator["WiredMover"]:
    """Yield what moves VMs as `magalu-migrate vm` does. A sandbox that they needed ends with the block."""
    box = _KeptSandbox()
    try:
        yield WiredMover(box)
    finally:
        box.end()


class WiredMover:
    """Make it with `wired_mover`."""

    def __init__(self, box: "_KeptSandbox") -> None:
        self._host = Host()
        self._box = box

    def job(self, run: Run, request: VmRequest, work: Path) -> Job:
        return job_of(run, request, work)

    def move(self, run: Run, job: Job, request: VmRequest, work: Path, sent: Callable[[int], object]) -> Outcome:
        if request.sandbox:
            self._box.need(work)
        return migrate_vm(run, job, request, work, self._host, sent=sent)

    def take_back(self, run: Run, job: Job, work: Path) -> None:
        if job.request.get("region") == "sandbox" and not all(map(is_of_source, job.ledger.left())):
            self._box.need(work)
        again = "Take it back by hand, or cancel the VM again."
        take_back_job(run, job, work, lambda text: run.tell(Note(text, "warning")), again)


class _KeptSandbox:
    """The sandbox, for several VMs at a time: the first one's must not end under the others. Its server dies with the thread that started it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: MigrateError | None = None

    def need(self, work: Path) -> None:
        """The sandbox of the work folder runs from now on. Raise MigrateError where it cannot."""
        with self._lock:
            if self._thread is not None:
                return
            ready = threading.Event()
            self._failure = None
            thread = threading.Thread(target=self._keep, args=(work, ready), name="sandbox", daemon=True)
            thread.start()
            ready.wait()
            if self._failure is not None:
                raise self._failure
            self._thread = thread

    def end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, work: Path, ready: threading.Event) -> None:
        with tempfile.TemporaryDirectory(prefix="mm-") as scratch:
            try:
                with kept_sandbox(Run(Path(scratch)), work):
                    ready.set()
                    self._ended.wait()
            except MigrateError as error:
                self._failure = error
            finally:
                ready.set()
