"""What a runner does with one VM: find its job, move it, take back what it made."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from migrate.errors import MigrateError
from migrate.job import Job
from migrate.outcome import Outcome
from migrate.run import Note, Run
from migrate.text import shown
from migrate.wiring.guests import Host
from migrate.wiring.migration import job_of, migrate_vm
from migrate.wiring.request import VmRequest
from migrate.wiring.sources import is_of_source, take_back_source
from migrate.wiring.targets import place_of, take_back, target


class Mover(Protocol):
    """Moves VMs. Safe from several threads; each `run` has a folder of its own."""

    def job(self, run: Run, request: VmRequest, work: Path) -> Job:
        """Return the job of a request, as migrate.wiring.migration.job_of."""

    def move(self, run: Run, job: Job, request: VmRequest, work: Path, sent: Callable[[int], object]) -> Outcome:
        """Bring the job to its end; `sent` is told of each piece that goes. As migrate.wiring.migration.migrate_vm."""

    def take_back(self, run: Run, job: Job, work: Path) -> None:
        """What the job made is gone, and its folder. Raise MigrateError where something could not be taken back; the job still knows of it then."""


class WiredMover:
    """Moves VMs as `magalu-migrate vm` does."""

    def __init__(self) -> None:
        self._host = Host()

    def job(self, run: Run, request: VmRequest, work: Path) -> Job:
        return job_of(run, request, work)

    def move(self, run: Run, job: Job, request: VmRequest, work: Path, sent: Callable[[int], object]) -> Outcome:
        return migrate_vm(run, job, request, work, self._host, sent=sent)

    def take_back(self, run: Run, job: Job, work: Path) -> None:
        with job.locked():
            job.sweep()
            left = job.ledger.left()
            there = [made for made in left if is_of_source(made)]
            here = [made for made in left if not is_of_source(made)]
            kept = list(take_back_source(run, job.request, there, job.ledger)) if there else []
            if here:
                with target(run, place_of(job.request, work), job.ledger) as opened:
                    for text in take_back(opened, here):
                        run.tell(Note(text, "warning"))
            if kept:
                raise MigrateError("; ".join(map(shown, kept)), hint="Take it back by hand, or cancel the VM again.")
            job.delete()
