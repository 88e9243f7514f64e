"""The index of a batch's previews: one self-contained page, which leads to each VM's own. Names and texts are foreign."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate.batch.plan_file import PlanFile, VmPlan
from migrate.html import asset, environment, policy
from migrate.preview.page import FOLDER as PREVIEW_ASSETS
from migrate.text import counted, size

FOLDER = Path(__file__).with_name("assets")


@dataclass(frozen=True, slots=True)
class Row:
    """A VM in the table; `words` is what a search looks through."""

    vm: VmPlan
    disk: str
    read: str
    words: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """VMs that cannot go for the same reasons."""

    vms: tuple[VmPlan, ...]

    @property
    def first(self) -> VmPlan:
        return self.vms[0]


def html(file: PlanFile) -> str:
    """Return the page."""
    css = asset(PREVIEW_ASSETS / "page.css").replace("plan {{ plan }}", _quoted(file.batch)) + asset(
        FOLDER / "plan.css"
    )
    script = asset(FOLDER / "plan.js")
    states = [vm.status for vm in file.vms]
    return (
        environment(FOLDER)
        .get_template("plan.html")
        .render(
            file=file,
            title=file.batch,
            policy=policy(css, script),
            css=css,
            script=script,
            answer=_answer(file),
            is_ok=len(states) == file.expected and set(states) <= {"can go"},
            rows=tuple(map(_row, file.vms)),
            states=tuple((state, states.count(state)) for state in ("can go", "refused", "failed") if state in states),
            stopped=tuple(_stopped(file.vms)),
            stopped_count=sum(vm.status != "can go" for vm in file.vms),
            facts=tuple(_facts(file.vms)),
        )
    )


def _quoted(name: str) -> str:
    """A batch's name in a sheet's string: letters, digits, dots, - and _ only, as the file's model has it."""
    return "".join(char for char in name if char.isalnum() or char in "._-")


def _answer(file: PlanFile) -> str:
    going = sum(vm.status == "can go" for vm in file.vms)
    refused = sum(vm.status == "refused" for vm in file.vms)
    failed = sum(vm.status == "failed" for vm in file.vms)
    parts = [f"{going} of {counted(file.expected, 'VM')} can go"]
    parts += [f"{refused} refused"] if refused else []
    parts += [f"{failed} could not be looked at"] if failed else []
    left = file.expected - len(file.vms)
    parts += [f"{left} not looked at yet"] if left else []
    return f"{', '.join(parts)}."


def _stopped(vms: Sequence[VmPlan]) -> Iterator[Stopped]:
    alike: dict[tuple[object, ...], list[VmPlan]] = {}
    for vm in vms:
        if vm.status != "can go":
            alike.setdefault((vm.status, vm.reasons, vm.error), []).append(vm)
    yield from (Stopped(tuple(found)) for found in alike.values())


def _facts(vms: Sequence[VmPlan]) -> Iterator[tuple[str, str]]:
    disks = [vm.disk_bytes for vm in vms if vm.disk_bytes]
    reads = [vm.read_bytes for vm in vms if vm.read_bytes is not None]
    if disks:
        yield "Disks", size(sum(disks))
    if reads:
        yield "To read, at most", size(sum(reads))
    yield "Changes", f"{sum(vm.changes for vm in vms):,}"
    yield "Warnings", f"{sum(vm.warnings for vm in vms):,}"


def _row(vm: VmPlan) -> Row:
    words = (vm.id, vm.name, vm.address, vm.system or "", vm.plan or "", *(reason.code for reason in vm.reasons))
    return Row(
        vm,
        size(vm.disk_bytes) if vm.disk_bytes else "",
        size(vm.read_bytes) if vm.read_bytes is not None else "",
        " ".join(words).lower(),
    )
