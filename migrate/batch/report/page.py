"""A batch as one self-contained page: opened from a file, without a network, on a screen, a phone and on paper.

The parts are rendered one by one, so that a page that is watched can replace those that change.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from migrate.batch.facts import BatchFacts, VmFacts, VmState
from migrate.batch.report.charts import gantt, throughput
from migrate.batch.report.values import Result, changes, left_to_do, result
from migrate.html import address, asset, environment, policy
from migrate.outcome import JsonObject
from migrate.preview.values import EditValue, EffectValue
from migrate.text import clock, counted, size, took

FOLDER = Path(__file__).with_name("assets")

MOST_LINES = 60
"""Of one diff: the JSON has it whole, and so has the preview."""
MOST_LINES_OF_ALL = 30_000
MOST_CONSOLE = 40
FEW = 40
"""Of so few VMs all that is known is shown unfolded on paper."""


def html(facts: BatchFacts) -> str:
    """Return the report."""
    css, script = asset(FOLDER / "report.css"), asset(FOLDER / "report.js")
    return (
        environment(FOLDER)
        .get_template("report.html")
        .render(
            title=facts.name,
            policy=policy(css, script),
            css=css,
            script=script,
            overview=overview(facts),
            details=tuple(details(facts)),
            is_long=len(facts.vms) > FEW,
        )
    )


# What changes while one watches


@dataclass(frozen=True, slots=True)
class Row:
    """A VM as the table shows it; `sort` is what each column is sorted by."""

    vm: VmFacts
    anchor: str
    """Its id, fit to stand in an address."""
    result: Result
    stage: str
    progress: float | None
    """Of the present stage, 0 to 1."""
    rate: str
    left: str
    took: str
    image_size: str
    left_to_do: int
    sort: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    facts: BatchFacts
    words: tuple[str, ...]
    states: tuple[tuple[str, int], ...]
    rows: tuple[Row, ...]
    gantt: object
    throughput: object
    to_do: tuple[tuple[Row, tuple[str, ...]], ...]


def overview(facts: BatchFacts) -> Overview:
    states = [vm.state for vm in facts.vms]
    rows = tuple(map(_row, facts.vms))
    urgent = sorted(rows, key=lambda row: row.vm.state not in (VmState.FAILED, VmState.REFUSED))
    to_do = tuple((row, tuple(left_to_do(row.vm))) for row in urgent if row.left_to_do)
    return Overview(
        facts,
        tuple(_words(facts)),
        tuple((state.value, states.count(state)) for state in VmState if state in states),
        rows,
        gantt(facts),
        throughput(facts.samples),
        to_do,
    )


def _words(facts: BatchFacts) -> Iterator[str]:
    done = sum(vm.state is VmState.DONE for vm in facts.vms)
    yield f"{done} of {counted(len(facts.vms), 'VM')} done"
    if facts.is_paused:
        yield "paused"
    ended = [vm.ended for vm in facts.vms if vm.ended]
    begun = [vm.began for vm in facts.vms if vm.began]
    if begun:
        last = max(ended) if ended and all(vm.state.is_final for vm in facts.vms) else facts.at
        yield f"{took((last - min(begun)).total_seconds())} since the first began"
    sizes = [result(vm) for vm in facts.vms]
    read = sum(one.read_bytes or 0 for one in sizes)
    stored = sum(one.image_bytes or 0 for one in sizes)
    if stored:
        yield f"{size(read)} read, {size(stored)} of images"
    held = sum(one.proof_held is True for one in sizes)
    if held:
        yield f"{held} proven by a boot"


def _row(vm: VmFacts) -> Row:
    found = result(vm)
    seconds = (vm.ended - vm.began).total_seconds() if vm.ended and vm.began else None
    part = min(1.0, vm.done / vm.total) if vm.done is not None and vm.total else None
    todo = sum(1 for _ in left_to_do(vm))
    state = list(VmState).index(vm.state)
    return Row(
        vm,
        address(vm.id),
        found,
        vm.stage or "",
        part,
        f"{size(vm.rate)}/s" if vm.rate and vm.unit == "B" else "",
        clock(vm.left_s) if vm.left_s is not None else "",
        took(seconds) if seconds is not None else "",
        size(found.image_bytes) if found.image_bytes else "",
        todo,
        (vm.name.lower(), f"{state}", f"{seconds or 0:012.1f}", f"{found.image_bytes or 0:015d}", f"{todo:05d}"),
    )


# All that is known of one VM


@dataclass(frozen=True, slots=True)
class Diff:
    path: str
    why: str
    lines: tuple[tuple[str, str], ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Detail:
    row: Row
    to_do: tuple[str, ...]
    findings: tuple[object, ...]
    sheet: tuple[tuple[str, str], ...]
    """What the guest was before, and will not be any more: its network above all."""
    diffs: tuple[Diff, ...]
    deeds: tuple[str, ...]
    """What is changed beside texts: packages, rebuilds, removals."""
    claims: tuple[JsonObject, ...]
    console: tuple[str, ...]
    hashes: tuple[tuple[str, str], ...]
    stages: tuple[tuple[str, str, str, str], ...]
    launched: tuple[tuple[str, str], ...]


def details(facts: BatchFacts) -> Iterator[Detail]:
    """Yield each VM's detail. Where there are many, diffs are left out of the last ones: the JSON has them."""
    left = MOST_LINES_OF_ALL
    for vm in facts.vms:
        made = detail(vm, left)
        left -= sum(len(diff.lines) for diff in made.diffs)
        yield made


def detail(vm: VmFacts, most_lines: int = MOST_LINES_OF_ALL) -> Detail:
    made = changes(vm)
    said = vm.outcome or {}
    proof = said.get("proof")
    proof = proof if isinstance(proof, dict) else {}
    console = cast(list[str], proof.get("console") or [])
    return Detail(
        row=_row(vm),
        to_do=tuple(left_to_do(vm)),
        findings=made.findings if made else (),
        sheet=tuple((fact.name, fact.text) for fact in made.facts) if made else (),
        diffs=tuple(_diffs(made.effects, most_lines)) if made else (),
        deeds=tuple(_deeds(made.effects)) if made else (),
        claims=tuple(cast(list[JsonObject], proof.get("claims") or [])),
        console=tuple(console[-MOST_CONSOLE:]),
        hashes=tuple(_hashes(said)),
        stages=tuple(
            (
                stage.name,
                took((stage.ended - stage.began).total_seconds()) if stage.ended else "did not end",
                stage.summary,
                stage.worker,
            )
            for stage in vm.stages
        ),
        launched=tuple(_launched(said)),
    )


def _diffs(effects: tuple[EffectValue, ...], most: int) -> Iterator[Diff]:
    for effect in effects:
        if isinstance(effect, EditValue) and most > 0:
            lines = effect.diff[: min(MOST_LINES, most)]
            most -= len(lines)
            kinds = tuple((_kind(line), line) for line in lines)
            yield Diff(effect.path, effect.why, kinds, len(effect.diff) - len(lines))


def _kind(line: str) -> str:
    return {"+": "a", "-": "d", "@": "h"}.get(line[:1], "")


def _deeds(effects: tuple[EffectValue, ...]) -> Iterator[str]:
    for effect in effects:
        match effect.effect:
            case "remove":
                yield f"remove {effect.path} because it {effect.why}"
            case "packages":
                for package in effect.remove:
                    yield f"remove package {package.name} {package.version} because it {effect.why}"
                if effect.install:
                    yield f"install {', '.join(f'{one.name} {one.version}' for one in effect.install)}"
            case "rebuild":
                yield f"rebuild {effect.what} because it {effect.why}"
            case "drop partition":
                yield f"delete partition {effect.partition} of disk {effect.disk + 1} because it {effect.why}"
            case "make swap file":
                yield f"make the swap file {effect.path} of {size(effect.bytes)}"


def _hashes(said: JsonObject) -> Iterator[tuple[str, str]]:
    stored, image, object_ = said.get("qcow2"), said.get("image"), said.get("object")
    if isinstance(image, dict):
        yield "image", f"{image.get('name')} ({image.get('id')})"
    if isinstance(object_, dict):
        kept = "is kept" if object_.get("kept") else "went once the image was active"
        yield "object", f"{object_.get('bucket')}/{object_.get('key')}, {kept}"
    if isinstance(stored, dict):
        yield "SHA-256 of the disk's blocks, as read", f"{stored.get('disk_sha256')}"
        yield "size", f"{_size(stored.get('bytes'))} for a disk of {_size(stored.get('virtual_bytes'))}"


def _launched(said: JsonObject) -> Iterator[tuple[str, str]]:
    instance = said.get("instance")
    for name, value in instance.items() if isinstance(instance, dict) else ():
        if isinstance(value, str | int | float):
            yield name, f"{value}"


def _size(value: object) -> str:
    return size(value) if isinstance(value, int) else "?"
