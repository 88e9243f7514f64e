"""Runs of the program that are killed at any moment of their work, and what `clean` makes of what they leave.

Each is forked from a process that has loaded the program, so that a try costs none of its start.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from migrate.job import Jobs
from tests.live_vms import LiveVm
from tests.program import asked

MOMENTS = 20
PATIENCE_S = 2.0
LOADED = ["__main__", "adapters.azure", "adapters.vmware", "migrate.cli.convert", "migrate.cli.vm", "tests.live_vms"]

Held = TypeVar("Held")

_FORKS = get_context("forkserver")
_FORKS.set_forkserver_preload(LOADED)


def held_after_kills(folder: Path, *lives: LiveVm, held: Callable[[], Held], settle: float = 0.0) -> Iterator[Held]:
    """Convert a VM by each of its ways once in peace, then MOMENTS times in turn until it is killed, at moments spread over the whole run.

    Yield what `held` tells of its cloud after each kill. Assert that after the `clean` that follows it tells what it told before, and that no
    job is left. `settle` is how long a request that was on its way may take, in seconds.
    """
    before = held()
    warm = _FORKS.Process(target=str)
    warm.start()
    warm.join()
    whole = [_run(live, folder, None) for live in lives]
    assert held() == before
    moments = random.Random(4)  # noqa: S311
    for number in range(MOMENTS):
        way = number % len(lives)
        _run(lives[way], folder, whole[way] * (number + moments.random()) / MOMENTS)
        time.sleep(settle)
        yield held()
        cleaned = asked("clean", "--work", folder / "work", env=lives[way].variables)
        assert cleaned.code == 0, cleaned
        _wait_until(lambda: held() == before, f"after kill {number}")
        assert list(Jobs(folder / "work").all()) == []


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    """What a cloud was told to end may take it a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _run(live: LiveVm, folder: Path, until: float | None) -> float:
    """Start the program; return after how many seconds it was killed, or ended by itself, which must be well."""
    words = ["convert", *live.words, str(folder / "out.qcow2"), "--force", "--work", str(folder / "work")]
    begun = time.monotonic()
    process = _FORKS.Process(target=_program, args=(words, {**live.variables, "TMPDIR": str(folder)}, folder / "said"))
    process.start()
    process.join(until)
    if until is not None:
        process.kill()
        process.join()
    assert process.exitcode in ((0,) if until is None else (0, -signal.SIGKILL)), (folder / "said").read_text()
    return time.monotonic() - begun


def _program(words: list[str], variables: Mapping[str, str], said: Path) -> None:
    from migrate.cli import main

    os.environ.update(variables)
    with said.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    main(words)
