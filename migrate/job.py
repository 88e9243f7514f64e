"""One migration's memory on disk: which stages are done with which result, and which remote things it has made.

A job is a folder. What is written there survives `kill -9`: each file is replaced whole, each ledger line is synced before the thing it
names is made. No secret is ever written there.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from migrate.errors import MigrateError, UsageError
from migrate.ledger_file import LedgerFile
from migrate.whole_file import write_whole

Result = TypeVar("Result", bound=BaseModel)

SCRATCH = Path("/var/tmp")  # noqa: S108  # mkdtemp makes a folder of our own in it
"""Where a run's sockets and scratch live: a socket's path has at most 107 bytes (unix(7)), which a home folder may well exceed."""


class JobFile(BaseModel):
    """job.json. `id` is random; `request` says what was asked, in the user's words; `image` is the image's name; `stages` holds the result of each finished stage."""

    model_config = ConfigDict(extra="forbid")

    version: int = 1
    id: str = ""
    request: dict[str, JsonValue]
    image: str | None = None
    bytes_read: int = 0
    stages: dict[str, dict[str, JsonValue]] = {}


class Job:
    """One migration. The same request finds the same job again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.ledger = LedgerFile(folder / "ledger.jsonl")

    @property
    def overlay(self) -> Path:
        return self.folder / "overlay.qcow2"

    @property
    def request(self) -> dict[str, JsonValue]:
        return self._file().request

    @property
    def blocks(self) -> Path:
        """The block map of the disk that was sent."""
        return self.folder / "blocks"

    @property
    def mark(self) -> str:
        """What this job's things at a source are known by: nobody else's job of the same VM, on any machine, has it."""
        return f"{self.name}-{self._file().id}"

    @property
    def bandwidth(self) -> Path:
        """How fast may be sent for this job."""
        return self.folder / "bandwidth"

    def result(self, stage: str, kind: type[Result]) -> Result | None:
        """Return what a finished stage left; None where it has not finished, or an older version of this program left it."""
        left = self._file().stages.get(stage)
        try:
            return None if left is None else kind.model_validate(left)
        except ValidationError:
            return None

    def needed(self, stage: str, kind: type[Result]) -> Result:
        """Return what a finished stage left. Raise MigrateError where it is not there."""
        left = self.result(stage, kind)
        if left is None:
            raise MigrateError(
                f"{self.name} does not hold what its stage {stage!r} left",
                hint=f"Remove it with: magalu-migrate clean {self.name}",
            )
        return left

    @property
    def bytes_read(self) -> int:
        """How much was read of the source, in all runs."""
        return self._file().bytes_read

    def count_read(self, count: int) -> None:
        file = self._file()
        file.bytes_read += count
        self._write(file)

    @property
    def is_done(self) -> bool:
        """Whether its image is active, and no launch of an instance was begun and not ended. A job that cannot be read is not known to be."""
        try:
            launching = any(made.kind == "instance" for made in self.ledger.left())
            return "import" in self._file().stages and not launching
        except MigrateError:
            return False

    def finish(self, stage: str, result: BaseModel) -> None:
        file = self._file()
        file.stages[stage] = result.model_dump(mode="json")
        self._write(file)

    def forget(self, *stages: str) -> None:
        """These stages have not finished."""
        file = self._file()
        for stage in stages:
            file.stages.pop(stage, None)
        self._write(file)

    @property
    def is_blank(self) -> bool:
        """Whether nothing was made yet, here or remotely: such a job is worth no folder."""
        return not self.overlay.exists() and not self.ledger.left() and self._file().stages.keys() <= {"freeze"}

    @property
    def image_name(self) -> str | None:
        return self._file().image

    def named(self, name: str) -> str:
        """Return the name of this job's image: the first one that was asked for. A default name holds its day, and a job may outlast it."""
        file = self._file()
        if file.image is None:
            file.image = name
            self._write(file)
        return file.image

    def delete(self) -> None:
        """The folder is gone. What it made remotely must be gone before."""
        shutil.rmtree(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job for this process. Raise UsageError where another one runs it."""
        try:
            opened = (self.folder / "lock").open("w")
        except FileNotFoundError as error:
            raise UsageError(f"{self.name} was just removed by another process", hint="Run it again.") from error
        with opened as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"{self.name} is running in another process", hint="Wait for it, or stop it."
                ) from error
            yield

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for this run's sockets and scratch, gone afterwards; what a dead run left is swept first."""
        self.sweep()
        folder = Path(tempfile.mkdtemp(prefix="mm-", dir=SCRATCH))
        write_whole(self._scratch_note, os.fsencode(folder))
        try:
            yield folder
        finally:
            self.sweep()

    def sweep(self) -> None:
        """The scratch folder of the last run is gone, with whatever is still mounted in it."""
        if not self._scratch_note.exists():
            return
        remove_with_mounts(Path(os.fsdecode(self._scratch_note.read_bytes())))
        self._scratch_note.unlink()

    @property
    def _scratch_note(self) -> Path:
        return self.folder / "scratch"

    def _file(self) -> JobFile:
        path = self.folder / "job.json"
        try:
            return JobFile.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise MigrateError(
                f"{path} cannot be read as a job", hint=f"Remove it with: magalu-migrate clean {self.folder.name}"
            ) from error

    def _write(self, file: JobFile) -> None:
        write_whole(self.folder / "job.json", file.model_dump_json(indent=1).encode())


@dataclass(frozen=True, slots=True)
class Jobs:
    """All jobs below one folder, the work folder that the user may name."""

    root: Path

    def find(self, name: str, request: dict[str, JsonValue]) -> Job:
        """Return the job for this request, made where there is none yet. Its name begins with `name`."""
        digest = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:8]
        safe = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:32] or "vm"
        folder = self.root / "jobs" / f"{safe}-{digest}"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        job = Job(folder)
        if not (folder / "job.json").exists():
            write_whole(
                folder / "job.json", JobFile(id=uuid4().hex[:12], request=request).model_dump_json(indent=1).encode()
            )
        return job

    def all(self) -> tuple[Job, ...]:
        folder = self.root / "jobs"
        return tuple(Job(path) for path in sorted(folder.iterdir()) if path.is_dir()) if folder.is_dir() else ()


@contextmanager
def blank_jobs_go(job: Job) -> Iterator[None]:
    """A job that was refused or stopped before it made anything, or gave all of it back, leaves no folder behind."""
    try:
        yield
    finally:
        if job.is_blank:
            job.delete()


def remove_with_mounts(folder: Path) -> None:
    """The folder is gone. What is mounted in it is unmounted first, lazily, so that nothing is deleted through a mount."""
    inside = f"{folder}/"
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        point = line.split()[4].encode().decode("unicode_escape")  # proc(5): blanks are written as \040
        if point.startswith(inside):
            subprocess.run(["umount", "--lazy", "--", point], check=False, capture_output=True)
    if not any(line.split()[4].startswith(inside) for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        shutil.rmtree(folder, ignore_errors=True)
