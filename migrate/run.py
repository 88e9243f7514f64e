"""One run of the program: what it tells, when it stops, and the child processes it owns.

A Run is passed to all work. Work emits events and never prints; it calls `check()` between chunks; it starts programs
only through `tool()` and `daemon()`, so that a stop, a crash or a `kill -9` of ours ends them too.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from migrate.errors import MigrateError, Stopped, ToolFailed

READY_POLL_S = (0.002, 0.1)
"""A quarter of what was waited so far, within these: qemu-nbd is ready after some 10 ms, an appliance after many seconds."""
POLL_S = 0.1
END_S = 5.0
"""How long a child may take to end after SIGTERM before it is killed."""


@dataclass(frozen=True, slots=True)
class StageBegan:
    stage: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` units; `total` is None where it is not known. `what` names the present activity."""

    stage: str
    done: float
    total: float | None
    unit: str = "B"
    what: str = ""


@dataclass(frozen=True, slots=True)
class StageDone:
    stage: str
    summary: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence for the user. `level` is "info" or "warning"."""

    text: str
    level: str = "info"


Event = StageBegan | Progress | StageDone | Note


@dataclass(frozen=True, slots=True)
class Limits:
    """Ceilings for a program that reads foreign data: address space in bytes, processor time in seconds."""

    address_space: int | None = None
    cpu_seconds: int | None = None

    def wrapped(self, argv: Sequence[str]) -> list[str]:
        words = ["prlimit", "--core=0"]
        if self.address_space is not None:
            words.append(f"--as={self.address_space}")
        if self.cpu_seconds is not None:
            words.append(f"--cpu={self.cpu_seconds}")
        return [*words, "--", *argv]


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Output:
    """What a program that ended wrote."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")


def _nobody_listens(event: Event) -> None:
    pass


@dataclass(slots=True)
class Run:
    """`work` is a folder of ours for this run; `listener` receives each event, on whichever thread it happened."""

    work: Path
    listener: Callable[[Event], None] = _nobody_listens
    stop: threading.Event = field(default_factory=threading.Event)

    def tell(self, event: Event) -> None:
        self.listener(event)

    def check(self) -> None:
        """Raise Stopped where the user asked to stop."""
        if self.stop.is_set():
            raise Stopped

    @contextmanager
    def stage(self, name: str) -> Iterator["Stage"]:
        """Tell that a stage began and, if its body ends well, that it is done."""
        self.check()
        self.tell(StageBegan(name))
        stage = Stage(name)
        began = time.monotonic()
        yield stage
        stage.seconds = time.monotonic() - began
        self.tell(StageDone(name, stage.summary, stage.seconds))

    def tool(
        self,
        argv: Sequence[str | Path],
        *,
        stdin: bytes | None = None,
        limits: Limits = NO_LIMITS,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        ok: Sequence[int] = (0,),
        on_wait: Callable[[], None] | None = None,
    ) -> Output:
        """Run a program to its end and return what it wrote.

        Raise ToolFailed where it ends with a status that is not in `ok` or takes longer than `timeout` seconds, Stopped where
        the user stops the run; the program and its children are ended then. `on_wait` is called some ten times a second.
        """
        words = [str(word) for word in argv]
        with (
            _readable(stdin) as given,
            self._child(words, limits, env, cwd, given, subprocess.PIPE, subprocess.PIPE) as child,
        ):
            deadline = None if timeout is None else time.monotonic() + timeout
            while True:
                try:
                    stdout, stderr = child.communicate(timeout=POLL_S)
                    break
                except subprocess.TimeoutExpired:
                    pass
                self.check()
                if on_wait is not None:
                    on_wait()
                if deadline is not None and time.monotonic() > deadline:
                    raise ToolFailed(words[0], f"no answer after {timeout:.0f} s", "")
        said = stderr.decode("utf-8", "replace")
        if child.returncode not in ok:
            raise ToolFailed(words[0], child.returncode, said)
        return Output(child.returncode, stdout, said)

    @contextmanager
    def daemon(
        self,
        argv: Sequence[str | Path],
        *,
        ready: Callable[[], bool],
        timeout: float = 30.0,
        limits: Limits = NO_LIMITS,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: Path | None = None,
        pass_fds: Sequence[int] = (),
        last_words: bool = False,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Keep a program running while the block lasts; yield it once `ready()` says yes, end it afterwards.

        Raise ToolFailed where it ends, or is not ready after `timeout` seconds. Its output goes to `log`, a file, because a pipe that
        nobody reads blocks the program. The program dies with the thread that started it (Linux's parent-death signal is per thread): at once, or by
        SIGTERM with `last_words`, for one that then writes down what it knows.
        """
        words = [str(word) for word in argv]
        path = log or self.work / f"{Path(words[0]).name}-{os.getpid()}-{time.monotonic_ns()}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("ab") as output,
            self._child(
                words, limits, env, cwd, subprocess.DEVNULL, output.fileno(), output.fileno(), pass_fds, last_words
            ) as child,
        ):
            began = time.monotonic()
            while not ready():
                self.check()
                if child.poll() is not None:
                    raise ToolFailed(words[0], child.returncode, path.read_text(errors="replace"))
                waited = time.monotonic() - began
                if waited > timeout:
                    raise ToolFailed(words[0], f"not ready after {timeout:.0f} s", path.read_text(errors="replace"))
                time.sleep(min(max(waited / 4, READY_POLL_S[0]), READY_POLL_S[1]))
            yield child

    @contextmanager
    def _child(
        self,
        words: list[str],
        limits: Limits,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stdin: int,
        stdout: int,
        stderr: int,
        pass_fds: Sequence[int] = (),
        last_words: bool = False,
    ) -> Iterator[subprocess.Popen[bytes]]:
        self.check()
        # setpriv's parent-death signal is what ends the child when we are killed with SIGKILL; setpriv(1), prlimit(1).
        argv = ["setpriv", "--pdeathsig", "TERM" if last_words else "KILL", "--", *limits.wrapped(words)]
        try:
            child = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,  # Ctrl-C reaches us only, and we end the whole group
                pass_fds=tuple(pass_fds),
            )
        except OSError as error:
            raise MigrateError(
                f"cannot start {words[0]}: {error.strerror}", hint="`magalu-migrate doctor` says what is missing."
            ) from error
        try:
            yield child
        finally:
            _end(child)


@dataclass(slots=True)
class Stage:
    """The running stage; its body sets `summary`, the words behind the tick."""

    name: str
    summary: str = ""
    seconds: float = 0.0


@contextmanager
def _readable(content: bytes | None) -> Iterator[int]:
    """Yield a descriptor that a child reads the content from: memory, not a pipe, because `Popen.communicate` stops writing once it timed out."""
    if content is None:
        yield subprocess.DEVNULL
        return
    descriptor = os.memfd_create("stdin")
    with os.fdopen(descriptor, "wb+") as file:
        file.write(content)
        file.seek(0)
        yield descriptor


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child and everything in its session."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_S)
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended
        os.killpg(pid, number)
