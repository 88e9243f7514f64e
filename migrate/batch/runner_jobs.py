"""A VM's job as a batch keeps it: what its folder remembers is in the database, too, and there first.

So a worker on another host goes on without the dead one's disk: it knows what was made remotely, under which mark, and which stages are done. What is
large stays where it was made (the overlay, the transfer's journal) and is made anew elsewhere.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from migrate.batch.store import Store
from migrate.batch.store_claims import Claim, keep_job, write_line
from migrate.errors import MigrateError, UsageError
from migrate.job import Job, JobFile
from migrate.ledger_file import LedgerFile
from migrate.whole_file import write_whole

LOCAL = ("overlay.qcow2", "transfer.journal", "transfer.first", "blocks")
"""What one host alone has of a job; of no use once another one has gone on."""


class CarriedLedger(LedgerFile):
    """A ledger whose lines are in the database before they are in its file. Raise Stopped where the claim is lost: nothing may be made then."""

    def __init__(self, path: Path, store: Store, claim: Claim) -> None:
        super().__init__(path)
        self._store = store
        self._claim = claim

    def will_make(self, kind: str, **names: str) -> None:
        write_line(self._store, self._claim, json.dumps({"will_make": kind, **names}))
        super().will_make(kind, **names)

    def gone(self, kind: str, **names: str) -> None:
        write_line(self._store, self._claim, json.dumps({"gone": kind, **names}))
        super().gone(kind, **names)


class CarriedJob(Job):
    """A job whose file is in the database before it is in its folder."""

    def __init__(self, folder: Path, store: Store, claim: Claim, place: str) -> None:
        super().__init__(folder)
        self._store = store
        self._claim = claim
        self._place = place
        self.ledger = CarriedLedger(folder / "ledger.jsonl", store, claim)

    def _write(self, file: JobFile) -> None:
        self._keep(file.model_dump_json())
        super()._write(file)

    def _keep(self, text: str) -> None:
        keep_job(self._store, self._claim, name=self.name, job_file=text, place=self._place)


def carried(store: Store, claim: Claim, job: Job, place: str) -> CarriedJob:
    """Return the job with all that is known of it, as this work folder's. Raise UsageError where another process of this host still runs it.

    What the database holds is what counts; of what lies in the folder, only what was made since this folder had it last.
    """
    made = CarriedJob(job.folder, store, claim, place)
    with job.locked():
        path = job.folder / "job.json"
        if claim.job_file is None:
            made._keep(path.read_text())
            for line in _lines(job.folder / "ledger.jsonl"):  # `magalu-migrate vm` was here before the batch
                write_line(store, claim, line)
        else:
            if claim.place != place:
                for name in LOCAL:
                    (job.folder / name).unlink(missing_ok=True)
            write_whole(job.folder / "ledger.jsonl", "".join(f"{line}\n" for line in claim.ledger).encode())
            made._write(_file(claim.job_file))
        if claim.image is not None and claim.job_file is not None:
            _rename(made, path, claim.image)
    return made


def _rename(made: CarriedJob, path: Path, name: str) -> None:
    """The image has this name from now on. What was sent is used under the name that it was sent by."""
    file = _file(path.read_text())
    if file.image not in (None, name):
        file.image = name
        made._write(file)


def _file(text: str) -> JobFile:
    try:
        return JobFile.model_validate_json(text)
    except ValidationError as error:
        raise MigrateError(
            "what the database holds of this VM's job cannot be read", hint="Cancel the VM, and try it again."
        ) from error


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line] if path.exists() else []


def is_locked(error: UsageError) -> bool:
    """Whether it says that another process runs the job."""
    return "is running in another process" in error.message
