"""A batch file made into a batch: each VM once, with the name of its image and its place in the order."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from migrate.batch.file import BatchFile, Once, read
from migrate.batch.model import Batch, PlannedVm
from migrate.batch.selectors import Seen, Selection, select
from migrate.errors import Mistake
from migrate.run import Run

SANDBOX = "sandbox"


@dataclass(frozen=True, slots=True)
class Planned:
    """A VM of a batch, and what was seen of it."""

    vm: PlannedVm
    seen: Seen


def resolve(run: Run, path: Path, *, today: date | None = None) -> Batch:
    """Return the batch of a file, with the VMs that its patterns mean now. Sources are listed; nothing is made anywhere.

    The same file and the same sources give the same batch on the same day (`today`, which names of images may have in them).
    Raise FileWrong with every mistake, SourceError or UsageError for a source that cannot be asked.
    """
    file = read(path)
    found = select(run, file, described=False)
    for _, failure in found.failures:
        raise failure
    return Batch(name=file.name, vms=tuple(one.vm for one in planned(file, found, today)), limits=file.limits)


def planned(file: BatchFile, found: Selection, today: date | None = None) -> tuple[Planned, ...]:
    """Return the VMs in the file's order. Raise FileWrong where a pattern names none, or two entries the same VM or image."""
    day = today or date.today()
    mistakes = list(found.mistakes)
    once = Once()
    made: list[Planned] = []
    ids: set[str] = set()
    for seen in found.seen:
        taken = once.takes(seen.identity, seen.entry.place)
        if isinstance(taken, Mistake):
            mistakes.append(taken)
        if taken is not True:
            continue
        image = seen.entry.image(seen.name, day=day, batch=file.name, number=seen.number)
        mistakes += once.image(image, seen.entry.name_place)
        made.append(Planned(_planned(seen, _id(seen.name, ids), image), seen))
    if mistakes:
        raise file.wrong(tuple(dict.fromkeys(mistakes)))
    return tuple(made)


def _planned(seen: Seen, id_: str, image: str) -> PlannedVm:
    entry = seen.entry
    # A default name holds the day, and a job outlasts it: where none was said, none is asked for.
    name = None if entry.template is None else image
    request = entry.request.model_copy(update={"address": seen.address, "name": name})
    return PlannedVm(
        id=id_,
        request=request,
        source=seen.source,
        target=SANDBOX if request.sandbox else f"magalu/{request.region or 'default'}",
        priority=entry.priority,
        not_before=entry.not_before,
        window=entry.window,
        disk_bytes=sum(disk.size for disk in seen.vm.disks) if seen.vm else None,
    )


def _id(name: str, taken: set[str]) -> str:
    """Return what the user types for a VM: its name, where another has it with a number behind it."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or "vm"
    number, found = 1, plain
    while found in taken:
        number += 1
        found = f"{plain}-{number}"
    taken.add(found)
    return found
