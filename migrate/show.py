"""What the user sees of a run: bars on a terminal, plain lines without one, JSON lines for programs."""

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from migrate.errors import FileWrong, MigrateError, NotMigratable, PlanChanged
from migrate.run import Event, Note, Progress, StageBegan, StageDone
from migrate.text import clock, counted, shown, size

Listener = Callable[[Event], None]
PLAIN_EVERY_S = 10.0
"""How often a plain log repeats the progress of a stage."""


@contextmanager
def listener(kind: str) -> Iterator[Listener]:
    """Yield what a Run tells its events to: "text" (bars where standard error is a terminal) or "json"."""
    if kind == "json":
        yield JsonLines(sys.stderr)
    elif sys.stderr.isatty():
        from migrate.screen import Screen  # and rich with it, which a program that reads JSON lines need not wait for

        with Screen() as screen:
            yield screen
    else:
        yield PlainLines(sys.stderr)


class JsonLines:
    """Each event as one JSON object on a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan(stage=stage):
                values: dict[str, object] = {"event": "stage began", "stage": stage}
            case Progress(stage=stage, done=done, total=total, unit=unit, what=what):
                values = {"event": "progress", "stage": stage, "done": done, "total": total, "unit": unit, "what": what}
            case StageDone(stage=stage, summary=summary, seconds=seconds):
                values = {"event": "stage done", "stage": stage, "summary": summary, "seconds": round(seconds, 2)}
            case Note(text=text, level=level):
                values = {"event": "note", "text": text, "level": level}
        print(json.dumps(values), file=self._file, flush=True)


class PlainLines:
    """The same facts for a log file: one line a fact, no bars, no colours."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._next: dict[str, float] = {}
        self._rate = Rate()

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan(stage=stage):
                self._next[stage] = time.monotonic() + PLAIN_EVERY_S
                self._say(f"   {stage}")
            case Progress(stage=stage) if time.monotonic() >= self._next.get(stage, math.inf):
                self._next[stage] = time.monotonic() + PLAIN_EVERY_S
                self._say(f"   {stage:<11} {self._rate.words(event)}")
            case StageDone(stage=stage, summary=summary, seconds=seconds):
                self._say(f" ✓ {stage:<11} {shown(summary):<66} {clock(seconds):>7}")
            case Note(text=text, level=level):
                self._say(f" {'!' if level == 'warning' else '·'} {shown(text)}")
            case _:
                pass

    def _say(self, line: str) -> None:
        print(line.rstrip(), file=self._file, flush=True)


class Rate:
    """Words for a progress event: how much, how fast, how long still. The rate is that of the last seconds."""

    WINDOW_S = 10.0

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[float, float]]] = {}

    def words(self, event: Progress) -> str:
        now = time.monotonic()
        seen = self._seen.setdefault(event.stage, [])
        seen.append((now, event.done))
        while len(seen) > 2 and now - seen[0][0] > self.WINDOW_S:
            seen.pop(0)
        parts = [shown(event.what)] if event.what else []
        if event.total:
            parts.insert(0, self._amount(event))
        elapsed, moved = now - seen[0][0], event.done - seen[0][1]
        if event.unit == "B" and elapsed > 1 and moved > 0:
            rate = moved / elapsed
            parts.append(f"{size(rate)}/s")
            if event.total and event.total > event.done:
                parts.append(f"{clock((event.total - event.done) / rate)} left")
        return " · ".join(parts)

    @staticmethod
    def _amount(event: Progress) -> str:
        total = event.total or 0.0
        if event.unit == "B":
            return f"{size(event.done)} of {size(total)}"
        if event.unit == "s":
            return f"{clock(event.done)} of at most {clock(total)}"
        return f"{event.done:.0f} of {total:.0f} {event.unit}"


def failure(error: MigrateError, subject: str | None = None) -> list[tuple[str, str]]:
    """Return the lines of an error and their styles: what happened, then what to do next."""
    if isinstance(error, NotMigratable):
        head = (
            f"{shown(error.subject)} cannot be moved, for {counted(len(error.reasons), 'reason')}; nothing was touched:"
        )
        found = [(head, "bold red")]
        for reason in error.reasons:
            found.append((f"  {reason.code:<10} {shown(reason.text)}", ""))
            found += [(f"  {'':<10} {shown(line)}", "") for line in reason.details]
            if reason.remedy:
                found.append((f"  {'':<10} {shown(reason.remedy)}", ""))
        return found
    if isinstance(error, FileWrong):
        return [*_mistakes(error), (f"{shown(error.message)}; nothing was started.", "bold red")]
    message = shown(error.message)
    head = message if subject is None or message.startswith(subject) else f"{shown(subject)}: {message}"
    more = error.differences if isinstance(error, PlanChanged) else ()
    return [
        (head, "bold red"),
        *((f"  {shown(line)}", "") for line in more),
        *([(shown(error.hint), "")] if error.hint else []),
    ]


def _mistakes(error: FileWrong) -> Iterator[tuple[str, str]]:
    """Each as compilers write it, so that editors and terminals lead to its place."""
    for mistake in error.mistakes:
        dot = "" if mistake.text.endswith("?") else "."
        hint = f"{dot} {mistake.hint}" if mistake.hint else ""
        yield shown(f"{error.name}:{mistake.place.line}:{mistake.place.column}: {mistake.text}{hint}"), ""
