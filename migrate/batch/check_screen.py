"""A check as a screen: the answer, the VMs in a table that stays readable with 500, then why some cannot go."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from migrate import show
from migrate.batch.check import Answer, BatchCheck, Checked
from migrate.batch.forecast import Bar
from migrate.errors import Reason
from migrate.lines import WIDTH, Line, wrapped
from migrate.text import counted, one_line, size

MOST_ROWS = 40
"""More VMs than this are shown as their entries are, a row each."""
MOST_REFUSED = 12
"""More refusals than this are told by their codes."""
MOST_NAMED = 8
HEAD = ("VM", "disks", "read", "image", "time", "answer")
WIDEST = (32, 8, 24, 24, 20, 60)
_STYLES = {Answer.GO: "", Answer.REFUSED: "red", Answer.FAILED: "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    cells: tuple[str, ...]
    style: str


def lines(found: BatchCheck, *, everything: bool = False) -> Iterator[Line]:
    """Yield the screen. `everything`: each VM has its row, however many there are."""
    yield from _answer(found)
    yield Line()
    folded = not everything and len(found.vms) > MOST_ROWS
    rows = [*(_entries(found.vms) if folded else (_row(one) for one in found.vms))]
    yield from _table(rows)
    if folded:
        yield Line("Each VM has its row with --all, and with --output json.", "dim")
    yield from _why_not(found)
    if any("--" in (reason.remedy or "") for one in found.vms for reason in one.reasons):
        yield Line("An option --word is the key `word:` in the batch file.", "dim")
    for entry, error in found.failures:
        yield Line()
        where = f"line {entry.place.line}, {one_line(entry.source)}"
        yield from (Line(text, style) for text, style in show.failure(error, where))
    for target in found.targets:
        yield Line()
        yield from (Line(text, "yellow") for text, _ in show.failure(target))
    yield Line()
    yield from wrapped("What this stands on: ", f"{found.basis.words}", "dim")


def _answer(found: BatchCheck) -> Iterator[Line]:
    answers, whole = found.answers, found.whole
    sources = len({one.planned.source for one in found.vms})
    counts = [f"{answers[answer]} {answer.value}" for answer in Answer if answers[answer]]
    style = "bold green" if found.exit_code == 0 else "bold red"
    head = f"{found.file.name} · {counted(len(found.vms), 'VM')} of {counted(sources, 'source')} · {', '.join(counts)}"
    if found.failures:
        head += f" · {counted(len(found.failures), 'entry')} could not be asked for"
    yield Line(head, style)
    if answers[Answer.GO]:
        limits = found.file.limits
        at_once = min(limits.per_worker, limits.overall or limits.per_worker)
        yield from wrapped(
            "",
            f"{size(whole.disk)} of disks, {_bytes(whole.read)} to read, images of {_bytes(whole.image)}; "
            f"about {_time(whole.seconds)} on one worker, {at_once} at once",
        )


def _row(one: Checked) -> Row:
    known = one.forecast
    shows = known is not None and one.answer is Answer.GO
    numbers = (
        size(known.disk) if known else "·",
        _bytes(known.read) if known and shows else "·",
        _bytes(known.image) if known and shows else "·",
        _time(known.seconds) if known and shows else "·",
    )
    return Row((one_line(one.planned.id), *numbers, _answer_words(one)), _STYLES[one.answer])


def _answer_words(one: Checked) -> str:
    waived = one.planned.request.waive
    match one.answer:
        case Answer.REFUSED:
            return f"refused: {', '.join(dict.fromkeys(reason.code for reason in one.reasons))}"
        case Answer.FAILED:
            return f"not looked at: {one_line(one.seen.failure.message) if one.seen.failure else ''}"
        case _:
            return (
                "can go"
                + (f", waives {', '.join(waived)}" if waived else "")
                + (", with notes" if one.seen.notes else "")
            )


def _entries(vms: Sequence[Checked]) -> Iterator[Row]:
    """A row for each entry of the file; entries of one VM that can go share rows."""
    alone: list[Checked] = []
    for _, group in groupby(vms, key=lambda one: one.seen.entry.place):
        found = [*group]
        if len(found) == 1 and found[0].answer is Answer.GO:
            alone.append(found[0])
            continue
        yield from _alone(alone)
        alone = []
        yield _row(found[0]) if len(found) == 1 else _sum(_entry(found[0]), found)
    yield from _alone(alone)


def _entry(one: Checked) -> str:
    entry = one.seen.entry
    return f"{one_line(entry.source).rpartition('//')[2].partition('/')[2] or one_line(entry.source)} (line {entry.place.line})"


def _alone(vms: Sequence[Checked]) -> Iterator[Row]:
    if len(vms) > 3:
        first, last = vms[0].seen.entry.place.line, vms[-1].seen.entry.place.line
        yield _sum(f"lines {first} to {last}", vms)
    else:
        yield from map(_row, vms)


def _sum(where: str, vms: Sequence[Checked]) -> Row:
    answers = Counter(one.answer for one in vms)
    known = [one.forecast for one in vms if one.forecast and one.answer is Answer.GO]
    disk = sum(one.forecast.disk for one in vms if one.forecast)
    read = image = Bar(0, 0, 0)
    for one in known:
        read, image = read + one.read, image + one.image
    words = ", ".join(f"{answers[answer]} {answer.value}" for answer in Answer if answers[answer])
    style = next((_STYLES[answer] for answer in (Answer.REFUSED, Answer.FAILED) if answers[answer]), "")
    number = f": {counted(len(vms), 'VM')}"
    names = f"{_tail(where, WIDEST[0] - len(number))}{number}"
    return Row((names, size(disk), _bytes(read), _bytes(image), "", words), style)


def _table(rows: Sequence[Row]) -> Iterator[Line]:
    widths = [
        min(most, max(len(cells[at]) for cells in (HEAD, *(row.cells for row in rows))))
        for at, most in enumerate(WIDEST)
    ]
    yield Line(_in_columns(HEAD, widths), "bold")
    for row in rows:
        yield Line(_in_columns(row.cells, widths), row.style)


def _in_columns(cells: Sequence[str], widths: Sequence[int]) -> str:
    *first, last = (
        _cut(cell, width).rjust(width) if at == 1 else _cut(cell, width).ljust(width)
        for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join((*first, last)).rstrip()


def _tail(text: str, width: int) -> str:
    """The end of a text, which tells patterns apart."""
    return text if len(text) <= width else f"…{text[1 - width :]}"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _why_not(found: BatchCheck) -> Iterator[Line]:
    refused = [one for one in found.vms if one.answer is Answer.REFUSED]
    if len(refused) <= MOST_REFUSED:
        for one in refused:
            yield Line()
            refusal = one.refusal
            yield from (Line(text, style) for text, style in (show.failure(refusal) if refusal else ()))
        return
    yield Line()
    yield Line(f"{counted(len(refused), 'VM')} cannot be moved as they are:", "bold red")
    by_code: dict[str, list[tuple[Checked, Reason]]] = {}
    for one in refused:
        for reason in one.reasons:
            by_code.setdefault(reason.code, []).append((one, reason))
    for code, told in sorted(by_code.items(), key=lambda item: -len(item[1])):
        first = told[0][1]
        names = [*dict.fromkeys(one_line(one.planned.id) for one, _ in told)]
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        yield from wrapped(
            f"  {code:<10} ", f"{counted(len(names), 'VM')}: {', '.join(names[:MOST_NAMED])}{more}", width=WIDTH
        )
        yield from wrapped(" " * 13, f"{'e.g. ' if len(names) > 1 else ''}{one_line(first.text)}", width=WIDTH)
        if first.remedy:
            yield from wrapped(" " * 13, one_line(first.remedy), width=WIDTH)


def _bytes(bar: Bar) -> str:
    """As "11.2 GiB (8 to 15)", in one unit."""
    if bar.high <= 0:
        return "0"
    if bar.low == bar.high:
        return size(bar.expected)
    low, high = _rough(bar.low), _rough(bar.high)
    number, _, unit = low.partition(" ")
    return f"{size(bar.expected)} ({number if high.endswith(f' {unit}') else low}–{high})"


def _rough(count: float) -> str:
    """A size in two digits: "1.6 TiB"."""
    number, _, unit = size(count).partition(" ")
    return f"{float(number):.2g} {unit}" if float(number) < 100 else f"{number} {unit}"


def _time(bar: Bar) -> str:
    return f"{_hours(bar.expected)} ({_hours(bar.low)}–{_hours(bar.high)})"


def _hours(seconds: float) -> str:
    """As "12 min" or "31 h": a forecast knows no seconds."""
    if seconds < 3600:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36000 else f"{seconds / 3600:.0f} h"
