"""The program as a user starts it: in this process where that is enough, as a process of its own where signals and leftovers count."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
from click.testing import CliRunner

from adapters.sandbox import Sandbox
from migrate.cli import main
from migrate.effects import Changes
from migrate.job import Job, Jobs
from migrate.outcome import Frozen, JsonObject, Repaired
from migrate.preview import changes_json
from migrate.run import Run
from migrate.source import Firmware
from migrate.wiring.request import VmRequest
from migrate.wiring.sources import source as source_of
from tests.cloud import s3

PROGRAM = Path(sys.executable).parent / "magalu-migrate"
MARK = "MAGALU_MIGRATE_TEST_MARK"
"""A variable that children inherit, and that tells ours from everybody else's."""

APPLIANCE_CACHE = {"LIBGUESTFS_CACHEDIR": "/var/tmp"}
"""Where libguestfs keeps its appliance without TMPDIR; elsewhere it would make one anew for each test."""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object on standard output; standard error must hold nothing but JSON lines."""
        for line in self.err.splitlines():
            assert isinstance(json.loads(line), dict), line
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


def asked(*words: str | Path, env: Mapping[str, str] | None = None) -> Answer:
    """Call the program in this process. Without `env` it knows no cloud; it never shows a traceback."""
    nothing = {name: None for name in os.environ if name.startswith(("MGC_", "MAGALU_MIGRATE_"))}
    with tempfile.TemporaryDirectory() as home:
        given = {**nothing, "HOME": home, "XDG_CONFIG_HOME": home, **(env or {})}
        result = CliRunner().invoke(main, [str(word) for word in words], env=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    assert "Traceback" not in result.output
    return Answer(result.exit_code, result.stdout, result.stderr)


def environment(box: Sandbox) -> dict[str, str]:
    """The variables that lead to a sandbox, as its file `environment` sets them."""
    return {name: value.reveal() for name, value in box.environment.items()}


@dataclass(frozen=True, slots=True)
class Started:
    """A process of the program. `scratch` is its TMPDIR; whatever names one of `folders` on its command line is its, too."""

    process: subprocess.Popen[bytes]
    mark: str
    scratch: Path
    said: Path
    folders: tuple[Path, ...]
    seen: set[tuple[int, str]] = field(default_factory=set)

    def relatives(self) -> dict[int, str]:
        """The processes that it started and that live, itself included, with their command lines.

        They are known by what they inherited, by the folders that they name, by their parents, and once known by being the same process.
        """
        mine = [text.encode() for text in (self.mark, *(f"{folder}/" for folder in (self.scratch, *self.folders)))]
        parents: dict[int, int] = {}
        words: dict[int, bytes] = {}
        starts: dict[int, str] = {}
        found: set[int] = set()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == os.getpid():
                continue
            pid = int(entry.name)
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                words[pid] = (entry / "cmdline").read_bytes()
                known = (entry / "environ").read_bytes() + words[pid]
            except OSError:
                continue
            state, parents[pid], starts[pid] = after_name[0], int(after_name[1]), after_name[19]
            if state != "Z" and (any(text in known for text in mine) or (pid, starts[pid]) in self.seen):
                found.add(pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        self.seen.update((pid, starts[pid]) for pid in found)
        return {pid: words[pid].replace(b"\0", b" ").decode("utf-8", "replace") for pid in found}

    def wait_for(self, what: Callable[[], bool], *, timeout: float = 900.0) -> None:
        """`what` holds now; the process still runs."""
        deadline = time.monotonic() + timeout
        while not what():
            assert self.process.poll() is None, self._answer()
            assert time.monotonic() < deadline, "what was waited for did not happen"
            time.sleep(0.02)

    def runs(self, program: str) -> bool:
        return any(program in words for words in self.relatives().values())

    def ended(self, number: signal.Signals, *, within: float) -> Answer:
        """Send a signal and return how it ended."""
        self.relatives()
        self.process.send_signal(number)
        return self.finished(within=within)

    def finished(self, *, within: float = 900.0) -> Answer:
        """Wait for its end and return how it ended."""
        self.process.wait(within)
        answer = self._answer()
        assert "Traceback" not in answer.out + answer.err
        return answer

    @property
    def err(self) -> str:
        """What it has written to standard error so far."""
        return (self.said / "err").read_text()

    def _answer(self) -> Answer:
        return Answer(self.process.returncode, (self.said / "out").read_text(), self.err)

    def assert_nothing_is_left(self) -> None:
        """No process of it lives, nothing of it is mounted, its scratch is empty."""
        deadline = time.monotonic() + 5.0  # a child that was killed is gone when its parent has reaped it
        while self.relatives() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert self.relatives() == {}
        mounts = Path("/proc/self/mountinfo").read_text()
        for folder in (self.scratch, *self.folders):
            assert str(folder) not in mounts
        assert list(self.scratch.iterdir()) == []


@contextmanager
def started(*words: str | Path, folder: Path, env: Mapping[str, str] | None = None) -> Iterator[Started]:
    """Start the program on its own, working in this folder; at the end it and all that it started are dead."""
    mark = uuid.uuid4().hex
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MGC_", "MAGALU_MIGRATE_"))}
    with tempfile.TemporaryDirectory(prefix="mmt-", ignore_cleanup_errors=True) as name:
        scratch, said = Path(name, "tmp"), Path(name, "said")
        scratch.mkdir()
        said.mkdir()
        with (said / "out").open("wb") as out, (said / "err").open("wb") as err:  # a pipe that nobody reads fills up
            process = subprocess.Popen(
                [PROGRAM, *words],
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**inherited, **APPLIANCE_CACHE, "TMPDIR": str(scratch), MARK: mark, **(env or {})},
            )
        run = Started(process, mark, scratch, said, (folder,))
        try:
            yield run
        finally:
            for pid in run.relatives():
                os.kill(pid, signal.SIGKILL)
            process.wait()


def keys_in(box: Sandbox, bucket: str, prefix: str) -> list[str]:
    """The objects and unfinished uploads of a bucket whose names begin so."""
    client = s3(box)
    if bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        return []
    stored = client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    begun = client.list_multipart_uploads(Bucket=bucket, Prefix=prefix).get("Uploads", [])
    return [one["Key"] for one in stored] + [one["Key"] for one in begun]


def repaired_job(
    run: Run, work: Path, disk: Path, overlay: Path, name: str, cloud: Mapping[str, Any], **asked: Any
) -> Job:
    """The job that `vm DISK --name NAME` left which ended between repair and proof; `overlay` is its qcow2. `asked` are its other options."""
    request = VmRequest(address=str(disk), name=name, **asked)
    with source_of(run, str(disk), None) as (source, ref):
        job = Jobs(work).find(ref.name, request.model_copy(update={"address": ref.address}).key(cloud))
        job.named(name)
        job.finish("freeze", Frozen(token=source.freeze(source.describe(ref), name)))
    overlay.rename(job.overlay)
    changes = cast(JsonObject, changes_json(Changes()))
    job.finish("remediate", Repaired(changes=changes, firmware=Firmware.BIOS, login=None, root_grows=True))
    return job


def commands(group: Any = main, words: Sequence[str] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the program, as it is typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name)
