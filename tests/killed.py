"""Runs of the program that are killed at any moment of their work, and what `clean` makes of what they leave.

Each is forked from a process that has loaded the program, so that a try costs none of its start.
"""

import atexit
import functools
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TypeVar

from migrate.job import Jobs
from tests.live_vms import LiveVm
from tests.program import asked

MOMENTS = 20
PATIENCE_S = 30.0
LOADED = [
    "__main__",
    "adapters.azure",
    "adapters.vmware",
    "migrate.cli.convert",
    "migrate.cli.vm",
    "tests.aws_journeys",
    "tests.live_vms",
]

Held = TypeVar("Held")

FORKS = get_context("forkserver")
"""There is one server of forks in a process, and it loads what is said before its first."""
FORKS.set_forkserver_preload(LOADED)


def held_after_kills(folder: Path, *lives: LiveVm, held: Callable[[], Held], settle: float = 0.0) -> Iterator[Held]:
    """Convert a VM by each of its ways once in peace, then MOMENTS times in turn until it is killed, at moments spread over the whole run.

    Yield what `held` tells of its cloud after each kill. Assert that after the `clean` that follows it tells what it told before, and that no
    job is left. `settle` is how long a request that was on its way may take, in seconds.
    """
    before = held()
    warm = FORKS.Process(target=str)
    warm.start()
    warm.join()
    whole = [_run(live, folder, None) or 0 for live in lives]
    assert held() == before
    moments = random.Random(4)  # noqa: S311
    for number in range(MOMENTS):
        way = number % len(lives)
        took = _run(lives[way], folder, whole[way] * (number + moments.random()) / MOMENTS)
        whole[way] = min(whole[way], took or whole[way])
        time.sleep(settle)
        yield held()
        cleaned = asked("clean", "--work", folder / "work", env=lives[way].variables)
        assert cleaned.code == 0, cleaned
        wait_until(lambda: held() == before, f"after kill {number}")
        assert list(Jobs(folder / "work").all()) == []


def killed_when(live: LiveVm, folder: Path, is_reached: Callable[[], bool]) -> None:
    """Convert the VM until something is reached; there the program is killed. What it said is in the folder's file `said`."""
    process = _started(live, folder)
    wait_until(is_reached, "what was to be reached")
    assert process.is_alive(), (folder / "said").read_text()
    process.kill()
    process.join()


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """What a cloud was told to end may take it a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _run(live: LiveVm, folder: Path, until: float | None) -> float | None:
    """Start the program; return after how many seconds it ended by itself, which must be well, None where it was killed before that."""
    begun = time.monotonic()
    process = _started(live, folder)
    process.join(until)
    took = time.monotonic() - begun
    process.kill()
    process.join()
    assert process.exitcode in ((0,) if until is None else (0, -signal.SIGKILL)), (folder / "said").read_text()
    return took if process.exitcode == 0 else None


def _started(live: LiveVm, folder: Path) -> ForkServerProcess:
    words = ["convert", *live.words, str(folder / "out.qcow2"), "--force", "--work", str(folder / "work")]
    process = FORKS.Process(
        target=_program, args=(words, {**live.variables, "TMPDIR": _scratch(folder)}, folder / "said")
    )
    process.start()
    return process


@functools.cache
def _scratch(folder: Path) -> str:
    """Return where the runs of a test have their scratch: pytest's own names may be longer than a unix socket's path may be."""
    made = tempfile.mkdtemp(prefix="mm-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _program(words: list[str], variables: Mapping[str, str], said: Path) -> None:
    from migrate.cli import main

    os.environ.update(variables)
    with said.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(words)
