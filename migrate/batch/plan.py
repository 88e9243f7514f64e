"""The previews of all VMs of a batch in one folder, with a page that leads to each. Nothing is changed anywhere else.

Each preview is a process of its own, the very `preview` of the command line: what ends one, a crash of the appliance included, ends no other.
"""

import json
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from migrate.batch.model import Batch, PlannedVm
from migrate.batch.plan_file import NAME, PlanFile, ReasonSaid, VmPlan, asked, read_plan
from migrate.batch.plan_page import html
from migrate.errors import MigrateError, NotMigratable, Stopped, ToolFailed, UsageError
from migrate.preview.values import PreviewValue
from migrate.run import Note, Progress, Run
from migrate.text import counted, one_line, shown
from migrate.whole_file import write_whole

PAGES = "vms"
INDEX = "index.html"
STAGE = "preview"
PROGRAM = "from migrate.cli import main; main()"
ENDED_BY_ITSELF = tuple(range(128))
MOST_SAID = 400


def plan(run: Run, batch: Batch, into: Path, work: Path, *, at_once: int = 2, again: bool = False) -> PlanFile:
    """The folder holds a preview of each VM as a page and as JSON, plan.json, and an index of them; return what plan.json says.

    A second call goes on where the first one ended: a VM that has its preview for the same wish keeps it, unless `again`. One that fails
    stops no other. Raise UsageError where the folder holds another batch's plan, Stopped where the user stops it: what is made is kept.
    """
    (into / PAGES).mkdir(parents=True, exist_ok=True)
    kept = {} if again else _kept(batch, into)
    folder = _Folder(batch, into, kept)
    folder.write()
    waiting = [vm for vm in batch.vms if vm.id not in kept]
    with run.stage(STAGE) as stage:
        if kept:
            run.tell(
                Note(
                    f"{len(kept)} of {counted(len(batch.vms), 'VM')} have their previews from an earlier run; --again makes them anew"
                )
            )
        with ThreadPoolExecutor(at_once) as pool:
            jobs = [pool.submit(_one, run, vm, into, work, folder) for vm in waiting]
            try:
                for job in jobs:
                    job.result()
            except Stopped as stopped:
                stopped.hint = "The previews that are made are kept: the same command goes on."
                raise
        stage.summary = f"{counted(len(batch.vms), 'VM')} in {one_line(str(into))}"
    return folder.write()


class _Folder:
    """plan.json and the index, written anew whenever another VM has its preview."""

    def __init__(self, batch: Batch, into: Path, found: dict[str, VmPlan]) -> None:
        self._batch = batch
        self._into = into
        self._found = dict(found)
        self._lock = threading.Lock()

    def _file(self) -> PlanFile:
        return PlanFile(
            batch=self._batch.name,
            version=version("magalu-migrate"),
            made=datetime.now(UTC),
            expected=len(self._batch.vms),
            vms=tuple(self._found[vm.id] for vm in self._batch.vms if vm.id in self._found),
        )

    def take(self, run: Run, made: VmPlan) -> None:
        with self._lock:
            self._found[made.id] = made
            self.write()
            run.tell(Progress(STAGE, len(self._found), len(self._batch.vms), "VMs", f"{made.id} {made.status}"))

    def write(self) -> PlanFile:
        """Write what there is now, and return it."""
        file = self._file()
        file.write(self._into)
        write_whole(self._into / INDEX, html(file).encode())
        return file


def _kept(batch: Batch, into: Path) -> dict[str, VmPlan]:
    """The previews of an earlier run that still are what is wanted; one that failed is tried again."""
    if not (into / NAME).exists():
        return {}
    before = read_plan(into)
    if before.batch != batch.name:
        raise UsageError(
            f"{one_line(str(into))} holds the plan of the batch {one_line(before.batch)}, not of {batch.name}",
            hint="Name another folder behind --into.",
        )
    wishes = {vm.id: asked(vm) for vm in batch.vms}
    return {
        one.id: one
        for one in before.vms
        if one.status != "failed"
        and wishes.get(one.id) == one.asked
        and all((into / name).is_file() for name in (one.page, one.preview) if name)
    }


def _one(run: Run, vm: PlannedVm, into: Path, work: Path, folder: _Folder) -> None:
    run.check()
    page = into / PAGES / f"{vm.id}.html"
    try:
        said = run.tool(_words(vm, page, work), ok=ENDED_BY_ITSELF)
        made = _made(vm, into, page, said.stdout, said.status, said.stderr)
    except Stopped:
        raise
    except MigrateError as error:
        made = _failed(vm, error)
    folder.take(run, made)


def _words(vm: PlannedVm, page: Path, work: Path) -> list[str | Path]:
    request = vm.request
    return [
        *(sys.executable, "-c", PROGRAM, "preview", request.address),
        *(f"--html={page.absolute()}", f"--room={request.room}", f"--work={work}", "--output=json", *request.words),
    ]


def _made(vm: PlannedVm, into: Path, page: Path, stdout: bytes, status: int, stderr: str) -> VmPlan:
    try:
        said = json.loads(stdout)
    except ValueError:
        return _failed(vm, ToolFailed("preview", status, stderr[-MOST_SAID:]))
    if "schema" not in said:
        return _without(vm, said)
    try:
        value = PreviewValue.model_validate(said)
    except ValidationError as error:  # never, but for a version of ours that was changed meanwhile
        return _failed(vm, MigrateError(f"its preview cannot be read: {error.errors()[0]['msg']}"))
    write_whole(page.with_suffix(".json"), stdout)
    forbid = [one for one in value.changes.findings if one.severity == "error" and not one.waived]
    return VmPlan(
        **_head(vm),
        status="can go" if value.can_go else "refused",
        page=str(page.relative_to(into)),
        preview=str(page.with_suffix(".json").relative_to(into)),
        plan=value.changes.plan,
        digest=value.changes.digest,
        system=value.os.pretty or value.os.id,
        disk_bytes=value.disk_bytes,
        read_bytes=value.sizes.read_bytes,
        changes=len(value.changes.effects),
        warnings=value.summary.warnings,
        reasons=tuple(ReasonSaid(code=one.code, text=one.text, remedy=one.remedy) for one in forbid),
    )


def _without(vm: PlannedVm, said: dict[str, object]) -> VmPlan:
    """What became of a VM that has no preview: refused before it was looked at, or failed."""
    error, hint, told = said.get("error"), said.get("hint"), said.get("reasons")
    reasons = [one for one in told if isinstance(one, dict)] if isinstance(told, list) else []
    return VmPlan(
        **_head(vm),
        status="refused" if said.get("status") == "refused" else "failed",
        disk_bytes=vm.disk_bytes,
        reasons=tuple(
            ReasonSaid(code=str(one.get("code")), text=shown(str(one.get("text"))), remedy=_text(one.get("remedy")))
            for one in reasons
        ),
        error=None if reasons else _text(error),
        hint=None if reasons else _text(hint),
    )


def _failed(vm: PlannedVm, error: MigrateError) -> VmPlan:
    return VmPlan(**_head(vm), status="failed", disk_bytes=vm.disk_bytes, error=shown(error.message), hint=error.hint)


def _head(vm: PlannedVm) -> dict[str, Any]:
    return {
        "id": vm.id,
        "name": vm.request.name or vm.id,
        "address": one_line(vm.request.address),
        "asked": asked(vm),
        "made": datetime.now(UTC),
    }


def _text(value: object) -> str | None:
    return shown(value) if isinstance(value, str) else None


def exit_code(file: PlanFile) -> int:
    """0: all can go; 3: a VM is refused; 1: one has no preview."""
    states: Sequence[str] = [vm.status for vm in file.vms]
    if "refused" in states:
        return NotMigratable.exit_code
    return MigrateError.exit_code if "failed" in states or len(file.vms) < file.expected else 0
