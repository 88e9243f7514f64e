"""A batch looked at as a whole, before anything is started: which VMs can go, which are refused and why, and what it will take."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from migrate.batch.file import BatchFile, Entry, read
from migrate.batch.forecast import Basis, Forecast, altogether, basis, forecast
from migrate.batch.model import PlannedVm
from migrate.batch.resolve import planned
from migrate.batch.selectors import Seen, select
from migrate.data_disks import DataDisks, data_disk_reasons
from migrate.errors import MigrateError, NotMigratable, Reason
from migrate.run import Run
from migrate.text import one_line
from migrate.wiring.targets import Place, cloud


class Answer(StrEnum):
    GO = "can go"
    REFUSED = "refused"
    FAILED = "not looked at"


@dataclass(frozen=True, slots=True)
class Checked:
    """One VM. `image` is the name that was asked for, None for the default; `forecast` is None where nothing is known of its disks."""

    planned: PlannedVm
    seen: Seen
    reasons: tuple[Reason, ...]
    forecast: Forecast | None

    @property
    def answer(self) -> Answer:
        if self.reasons:
            return Answer.REFUSED
        return Answer.FAILED if self.seen.failure else Answer.GO

    @property
    def refusal(self) -> NotMigratable | None:
        return NotMigratable(self.seen.name, self.reasons) if self.reasons else None


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """`whole` is the forecast of what can go. `failures` are entries whose source could not be asked; `targets` what stands in the way there."""

    file: BatchFile
    vms: tuple[Checked, ...]
    whole: Forecast
    basis: Basis
    failures: tuple[tuple[Entry, MigrateError], ...]
    targets: tuple[MigrateError, ...]

    @property
    def answers(self) -> Counter[Answer]:
        return Counter(vm.answer for vm in self.vms)

    @property
    def exit_code(self) -> int:
        """0: all can go; 3: something is refused; 1: something could not be asked."""
        if self.answers[Answer.REFUSED]:
            return NotMigratable.exit_code
        return MigrateError.exit_code if self.failures or self.answers[Answer.FAILED] else 0


def check(run: Run, path: Path, work: Path) -> BatchCheck:
    """Look at every VM of a batch file. Nothing is started, and nothing is made anywhere.

    Raise FileWrong with every mistake, Stopped. A source that cannot be asked, or a VM that is refused, is in what is returned.
    """
    file = read(path)
    found = select(run, file, described=True)
    known = basis(work)
    vms = tuple(_checked(one.vm, one.seen, known) for one in planned(file, found))
    going = [(one.planned.source, one.forecast) for one in vms if one.forecast and one.answer is Answer.GO]
    return BatchCheck(file, vms, altogether(going, file.limits), known, found.failures, tuple(_targets(run, vms, work)))


def _checked(vm: PlannedVm, seen: Seen, known: Basis) -> Checked:
    reasons = list(seen.reasons)
    if seen.vm is not None and vm.request.data_disks is DataDisks.REFUSE:
        reasons += data_disk_reasons(seen.vm)
    expected = forecast(seen.vm, vm.request, known) if seen.vm is not None else None
    return Checked(vm, seen, tuple(dict.fromkeys(reasons)), expected)


def _targets(run: Run, vms: Sequence[Checked], work: Path) -> Iterator[MigrateError]:
    """What is missing to reach the targets, credentials above all; each is asked once, and nothing is sent to any."""
    asked: set[tuple[bool, str | None]] = set()
    for one in vms:
        request = one.planned.request
        if (place := (request.sandbox, request.region)) in asked:
            continue
        asked.add(place)
        try:
            cloud(run, Place(request.sandbox, request.region, request.bucket, request.size_limit, work))
        except MigrateError as error:
            yield error


def to_json(found: BatchCheck) -> dict[str, object]:
    """Return the check as JSON values."""
    answers = found.answers
    return {
        "status": {0: "can go", 3: "refused"}.get(found.exit_code, "failed"),
        "name": found.file.name,
        "counts": {answer.value: answers[answer] for answer in Answer},
        "whole": _forecast_json(found.whole),
        "basis": found.basis.words,
        "targets": [{"error": error.message, "hint": error.hint} for error in found.targets],
        "failures": [
            {"source": entry.source, "line": entry.place.line, "error": error.message, "hint": error.hint}
            for entry, error in found.failures
        ],
        "vms": [_vm_json(one) for one in found.vms],
    }


def _vm_json(one: Checked) -> dict[str, object]:
    seen, failure = one.seen, one.seen.failure
    return {
        "id": one.planned.id,
        "name": seen.name,
        "address": seen.address,
        "line": seen.entry.place.line,
        "image": one.planned.request.name,
        "answer": one.answer.value,
        "reasons": [asdict(reason) for reason in one.reasons],
        "waives": list(one.planned.request.waive),
        "notes": [one_line(note) for note in seen.notes],
        "error": failure.message if failure else None,
        "hint": failure.hint if failure else None,
        "system": seen.vm.os_hint if seen.vm else None,
        "forecast": _forecast_json(one.forecast) if one.forecast else None,
    }


def _forecast_json(known: Forecast) -> dict[str, object]:
    return {
        "disk_bytes": known.disk,
        "read_bytes": known.read.json,
        "image_bytes": known.image.json,
        "seconds": known.seconds.json,
    }
