"""A command's run and its screens: events as the user wants them, signals, and the exit code of each error."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click

from migrate import show
from migrate.errors import FileWrong, MigrateError, NotMigratable, PlanChanged, ProofFailed, Stopped
from migrate.lines import Line
from migrate.run import Run

FAILED, STOPPED = MigrateError.exit_code, Stopped.exit_code


@contextmanager
def running(output: str) -> Iterator[Run]:
    """Yield a Run that tells its events as `output` wants them; end the program with the error's own exit code.

    The first Ctrl-C or SIGTERM asks the work to stop; a second one ends the program at once (its children die with it).
    """
    with tempfile.TemporaryDirectory(prefix="mm-") as scratch, show.listener(output) as listener:
        run = Run(Path(scratch), listener)
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: FrameType | None) -> None:
            if run.stop.is_set():
                os._exit(STOPPED)
            run.stop.set()

        for number in before:
            signal.signal(number, stop)
        failed: MigrateError | None = None
        try:
            yield run
        except MigrateError as error:
            failed = error
        except BrokenPipeError:
            raise  # who reads our output has gone, click ends quietly
        except OSError as error:  # the last edge: a full disk, a folder that may not be written
            what = f"{error.filename}: " if error.filename else ""
            failed = MigrateError(
                f"{what}{error.strerror or error}",
                hint="Check that the folder may be written and has room, then run the same command again.",
            )
        finally:
            if not run.stop.is_set():  # else the program ends now, and a further Ctrl-C may hurry it
                for number, handler in before.items():
                    signal.signal(number, handler)
    if failed is not None:
        _fail(failed, output)


def _fail(error: MigrateError, output: str) -> None:
    if output == "json":
        values: dict[str, object] = {"status": _status(error), "error": error.message, "hint": error.hint}
        if isinstance(error, NotMigratable):
            values["reasons"] = [asdict(reason) for reason in error.reasons]
        if isinstance(error, FileWrong):
            values["mistakes"] = [
                {**asdict(mistake.place), "text": mistake.text, "hint": mistake.hint} for mistake in error.mistakes
            ]
        if isinstance(error, PlanChanged):
            values["differences"] = list(error.differences)
        if isinstance(error, ProofFailed):
            values["proof"] = error.proof
        print_json(values)
    else:
        _print(show.failure(error), errors=True)
    sys.exit(error.exit_code)


def _status(error: MigrateError) -> str:
    match error:
        case NotMigratable():
            return "refused"
        case Stopped():
            return "stopped"
        case _:
            return "failed"


def print_lines(lines: Iterable[Line]) -> None:
    _print((line.text, line.style) for line in lines)


def _print(lines: Iterable[tuple[str, str]], *, errors: bool = False) -> None:
    from rich.console import Console  # loaded for people only: programs that ask for JSON need not wait for it
    from rich.text import Text

    console = Console(stderr=errors, highlight=False)
    for text, style in lines:
        console.print(Text(text, style), soft_wrap=True)


def print_json(values: object) -> None:
    click.echo(json.dumps(values, indent=1))
