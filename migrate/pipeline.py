"""The way of one VM: describe, look, repair, convert, prove, upload, import. Each stage's second call is cheap.

A stage's result is written down before the next starts, so that a second run of the same request goes on where the first one
ended: whatever is finished and still true is not done again. Every refusal comes before anything is copied.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from pydantic import JsonValue

from migrate.convert import Engine, ImageFile, convert, make_overlay, served
from migrate.draft import Draft
from migrate.effects import Changes, Finding, Severity
from migrate.errors import GuestError, MigrateError, NotMigratable, ProofFailed, Reason, TargetError, UsageError
from migrate.guest import Guest
from migrate.job import Job
from migrate.login import login_user
from migrate.nbd import counted
from migrate.preview import Preview, changes_json
from migrate.remediate import preview as previewed
from migrate.remediate import remediate
from migrate.remediation import Remediation, Settings
from migrate.run import Note, Run
from migrate.source import BlockSource, Firmware, Source, Vm, VmRef
from migrate.target import Image, ObjectRef, Requirements, Target
from migrate.text import counted as counted_noun
from migrate.text import shown, size

JsonObject = dict[str, JsonValue]

_FROZEN = "every checksum and table that the files have is sound"


class Repair(Protocol):
    """A guest that takes changes."""

    @property
    def guest(self) -> Guest: ...

    def finish(self) -> None:
        """Everything that was changed is on the overlay, freed blocks are trimmed; the guest is not used any more."""


class Rooms(Protocol):
    """Opens the guest on a disk: to look at it, or to repair it on an overlay."""

    def look(self, run: Run, uri: str, firmware: Firmware | None) -> AbstractContextManager[Guest]: ...

    def repair(
        self, run: Run, uri: str, overlay: Path, firmware: Firmware | None
    ) -> AbstractContextManager[Repair]: ...


class Prover(Protocol):
    def __call__(
        self, run: Run, image: Path, *, firmware: Firmware, user: str | None, root_grows: bool = True
    ) -> JsonObject:
        """Boot the image and return the proof; `held` in it says whether every claim that decides holds, `reasons` why not."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the user wants of one VM. `name` is the image's; `prover` is None where no proof is wanted.

    `no_growth` holds the findings' codes that say that the root cannot grow: the proof does not ask for it then. `strict` refuses
    a guest with a warning that is not waived.
    """

    ref: VmRef
    name: str
    settings: Settings
    target: Target
    prover: Prover | None
    remediations: Sequence[Remediation]
    no_growth: frozenset[str] = frozenset()
    keep_object: bool = False
    skip_data_disks: bool = False
    engine: Engine = Engine.STREAM
    approved: str | None = None
    strict: bool = False


@dataclass(slots=True)
class Outcome:
    """What became of it, stage by stage, as the final JSON object holds it."""

    status: str = "failed"
    vm: Vm | None = None
    changes: JsonObject | None = None
    qcow2: JsonObject | None = None
    proof: JsonObject | None = None
    stored: JsonObject | None = None
    image: JsonObject | None = None
    login: str | None = None
    bytes_read: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the final JSON object. A stage that was not reached, or not wanted, is null."""
        return {
            "status": self.status,
            "name": self.vm.name if self.vm else None,
            "origin": self.vm.origin if self.vm else None,
            "image": self.image,
            "object": self.stored,
            "qcow2": self.qcow2,
            "changes": self.changes,
            "proof": self.proof,
            "login": self.login,
            "seconds": self.seconds,
            "bytes_read": self.bytes_read,
        }


def look(
    run: Run, source: Source, ref: VmRef, rooms: Rooms, remediations: Sequence[Remediation], settings: Settings
) -> Preview:
    """Return what `migrate` would do to the guest. Nothing is written but scratch of ours."""
    with run.stage("describe") as stage:
        vm = source.describe(ref)
        stage.summary = _described(vm)
    with run.stage("freeze") as stage:
        token = source.freeze(vm, ref.name)
        stage.summary = _FROZEN
    with (
        run.stage("look") as stage,
        source.frozen(token) as disks,
        _boot_disk(vm, disks).nbd() as uri,
        rooms.look(run, uri, vm.firmware) as guest,
    ):
        found = examined(run, vm, guest, remediations, settings)
        stage.summary = found.os.pretty or found.os.id
    return found


def examined(run: Run, vm: Vm, guest: Guest, remediations: Sequence[Remediation], settings: Settings) -> Preview:
    """Return the preview of an open guest."""
    changes = previewed(run, guest, remediations, settings)
    draft = Draft(guest)
    return Preview(vm, guest.os, guest.layout, draft.names("/lib/modules"), login_user(draft), changes)


def migrate(run: Run, job: Job, source: Source, rooms: Rooms, order: Order) -> Outcome:
    """The VM's boot disk is an active image of the target, repaired and, where wanted, proven.

    Raise NotMigratable before anything is copied; ProofFailed where the image does not come up (nothing is uploaded then).
    """
    outcome = Outcome()
    with _timed(run, outcome, "describe") as stage:
        vm = outcome.vm = source.describe(order.ref)
        stage.summary = _described(vm)
    reasons = [] if order.skip_data_disks else _data_disk_reasons(vm)
    if job.result("convert") is None:
        reasons += _target_reasons(order, vm, None)
    _refuse(vm.name, reasons)
    with _timed(run, outcome, "freeze") as stage:
        token = source.freeze(vm, order.name)
        stage.summary = _FROZEN
    if job.result("freeze") != {"token": token}:
        job.forget("convert", "prove", "upload", "import")  # another disk than last time
        job.finish("freeze", {"token": token})

    made = job.result("convert")
    if made is None or not job.image.exists() or job.image.stat().st_size != cast(JsonObject, made["qcow2"])["bytes"]:
        if made is not None:  # else this was asked above, before the source was read
            job.forget("convert", "prove", "upload", "import")
            _refuse(vm.name, _target_reasons(order, vm, None))
        made = _repaired_image(run, job, source, token, rooms, order, vm, outcome)
        job.finish("convert", made)
    else:
        _check_plan(order, vm, str(cast(JsonObject, made["changes"])["plan"]))
        _refuse(vm.name, _finding_reasons(_kept_findings(job, made, order.settings), order))
        run.tell(Note("the image of an earlier run is used: repaired and converted already"))
    outcome.changes = cast(JsonObject, made["changes"])
    outcome.qcow2 = cast(JsonObject, made["qcow2"])
    outcome.login = cast("str | None", made["login"])
    outcome.bytes_read = int(cast(int, made["bytes_read"]))
    firmware = Firmware(made["firmware"])
    file = ImageFile(job.image, int(cast(int, outcome.qcow2["bytes"])), int(cast(int, outcome.qcow2["virtual_bytes"])))
    if job.result("import") is None:
        _refuse(vm.name, _target_reasons(order, vm, file.bytes, firmware))

    _prove(run, job, order, outcome, file, firmware, root_grows=bool(made["root_grows"]))
    _deliver(run, job, order, outcome, vm, file, firmware)
    source.release(token)
    outcome.status = "active"
    return outcome


def _repaired_image(
    run: Run, job: Job, source: Source, token: str, rooms: Rooms, order: Order, vm: Vm, outcome: Outcome
) -> JsonObject:
    """Repair on an overlay, then convert; the source is read through a counter. Return what `convert` leaves."""
    with source.frozen(token) as disks, _boot_disk(vm, disks).nbd() as uri:
        with counted(run, uri) as disk:
            make_overlay(run, job.overlay, disk.uri)
            try:
                with _timed(run, outcome, "remediate") as stage:
                    preview, changes = _repair(run, rooms, disk.uri, job.overlay, vm, order, stage.name)
                    stage.summary = (
                        f"{counted_noun(len(changes.effects), 'change')}; a second look finds nothing left to change"
                    )
                with _timed(run, outcome, "convert") as stage:
                    with served(run, job.overlay) as merged:
                        image = convert(run, merged, job.image, stage.name, engine=order.engine)
                    stage.summary = f"{size(image.bytes)} for a disk of {size(image.virtual_bytes)}"
            finally:
                job.overlay.unlink(missing_ok=True)
        read = disk.bytes_read
    return {
        "changes": cast(JsonObject, changes_json(changes)),
        "qcow2": {
            "path": str(image.path),
            "bytes": image.bytes,
            "virtual_bytes": image.virtual_bytes,
            "disk_sha256": image.blocks.digest if image.blocks else None,
        },
        "firmware": preview.layout.firmware.value,
        "login": preview.login,
        "root_grows": not any(finding.code in order.no_growth for finding in changes.findings),
        "bytes_read": read,
    }


def _repair(
    run: Run, rooms: Rooms, uri: str, overlay: Path, vm: Vm, order: Order, stage: str
) -> tuple[Preview, Changes]:
    """Look, refuse or repair, and look again: a repaired guest that still wants a change is not what was promised."""
    with rooms.repair(run, uri, overlay, vm.firmware) as repair:
        before = examined(run, vm, repair.guest, order.remediations, order.settings)
        _refuse(vm.name, _finding_reasons(before.changes.findings, order))
        _check_plan(order, vm, before.changes.plan)
        changes = remediate(run, repair.guest, order.remediations, order.settings, stage)
        after = previewed(run, repair.guest, order.remediations, order.settings)
        if after.effects:
            unmet = ", ".join(sorted({effect.by for effect in after.effects}))
            raise GuestError(
                f"{vm.name}: after the repair, a second look still wants changes ({unmet})",
                hint="Nothing was uploaded. See them with `magalu-migrate preview`; leave one out with --skip NAME.",
            )
        repair.finish()
    return before, changes


def _prove(
    run: Run, job: Job, order: Order, outcome: Outcome, file: ImageFile, firmware: Firmware, *, root_grows: bool
) -> None:
    outcome.proof = job.result("prove")
    if outcome.proof is not None or order.prover is None:
        return
    with _timed(run, outcome, "prove") as stage:
        proof = order.prover(run, file.path, firmware=firmware, user=outcome.login, root_grows=root_grows)
        outcome.proof = proof
        if not proof["held"]:
            reasons = (
                "; ".join(str(reason) for reason in cast(list[JsonValue], proof["reasons"])) or "no reason was found"
            )
            raise ProofFailed(
                f"{order.name}: the image was booted and does not come up as it must: {reasons}",
                hint=f"Nothing was uploaded. The image is kept: {file.path}. Look at the console: magalu-migrate prove {file.path}",
            )
        stage.summary = f"{proof['summary']}"
    job.finish("prove", proof)


def _deliver(run: Run, job: Job, order: Order, outcome: Outcome, vm: Vm, file: ImageFile, firmware: Firmware) -> None:
    """Upload and import, unless an earlier run did; then the object goes, because an active image needs it no more."""
    done = job.result("import")
    if done is not None:
        image = cast(JsonObject, done["image"])
        if order.target.status(str(image["id"])) == "active":
            outcome.stored, outcome.image = cast(JsonObject, done["object"]), image
            run.tell(Note(f"image {image['name']} was imported by an earlier run"))
            return
        run.tell(
            Note(f"image {image['name']} ({image['id']}) of an earlier run is gone; it is imported anew", "warning")
        )
        job.forget("upload", "import")
    key = f"{order.name}.qcow2"
    with _timed(run, outcome, "upload") as stage:
        stored = order.target.upload(file.path, key=key)
        outcome.stored = {"bucket": stored.bucket, "key": stored.key, "bytes": stored.bytes}
        stage.summary = f"{size(stored.bytes)} as {stored.key} in bucket {stored.bucket}"
    with _timed(run, outcome, "import") as stage:
        made = _imported(order, stored, vm, file, firmware)
        outcome.image = {"id": made.id, "name": made.name, "status": made.status}
        stage.summary = f"{made.name} is {made.status} ({made.id})"
    job.ledger.gone("image", name=made.name)  # it is the user's now: `clean` must never take it back
    if order.keep_object:
        for kind in ("upload", "object"):
            job.ledger.gone(kind, bucket=stored.bucket, key=stored.key)  # it is the user's, too
    else:
        order.target.discard(stored)
    outcome.stored["kept"] = order.keep_object
    job.finish("import", {"object": outcome.stored, "image": outcome.image})


def _imported(order: Order, stored: ObjectRef, vm: Vm, file: ImageFile, firmware: Firmware) -> Image:
    try:
        return order.target.import_image(
            stored,
            name=order.name,
            firmware=firmware,
            requirements=Requirements(
                vcpu=vm.vcpus or 1,
                ram_gb=math.ceil((vm.memory_bytes or 1 << 30) / (1 << 30)),
                disk_gb=math.ceil(file.virtual_bytes / 10**9),
            ),
            description=f"{vm.name} from {vm.origin}",
        )
    except TargetError as error:
        error.hint = " ".join(
            filter(
                None,
                [
                    error.hint,
                    "Everything else is done and kept: run the same command again and only the import is tried.",
                ],
            )
        )
        raise


def _finding_reasons(findings: Iterable[Finding], order: Order) -> list[Reason]:
    """Return what forbids the move; where the user is strict, each warning that is not waived does."""
    reasons = []
    for finding in findings:
        if finding.forbids:
            reasons.append(Reason(finding.code, finding.text, finding.remedy))
        elif order.strict and finding.severity is Severity.WARNING and not finding.waived:
            accept = f"Or accept it: --waive {finding.code}"
            reasons.append(
                Reason(finding.code, finding.text, f"{finding.remedy} {accept}" if finding.remedy else accept)
            )
    return reasons


def _kept_findings(job: Job, made: JsonObject, settings: Settings) -> list[Finding]:
    """Return what an earlier run found; what is waived now is written down anew."""
    kept = cast(list[JsonObject], cast(JsonObject, made["changes"])["findings"])
    for one in kept:
        one["waived"] = one["code"] in settings.waive
    job.finish("convert", made)
    return [
        Finding(
            str(one["by"]),
            str(one["code"]),
            Severity(one["severity"]),
            str(one["text"]),
            cast("str | None", one["remedy"]),
            bool(one["waived"]),
        )
        for one in kept
    ]


def _target_reasons(order: Order, vm: Vm, bytes_: int | None, firmware: Firmware | None = None) -> list[Reason]:
    firmware = firmware or vm.firmware or Firmware.BIOS
    return list(order.target.refuses(name=order.name, size_bytes=bytes_, firmware=firmware))


def _data_disk_reasons(vm: Vm) -> list[Reason]:
    return [
        Reason(
            "SRC-100",
            f'disk "{shown(disk.name)}" ({size(disk.size)}) is a data disk: a Magalu image holds the boot disk only.',
            "Leave it behind with --data-disks skip and copy its data by other means, or detach it first.",
        )
        for disk in vm.disks[1:]
    ]


def _check_plan(order: Order, vm: Vm, plan: str) -> None:
    if order.approved not in (None, plan):
        raise UsageError(
            f"{vm.name}: the plan is {plan} now, not {order.approved} as approved",
            hint="The guest, its repositories or the options have changed. Look again with `magalu-migrate preview`.",
        )


def _refuse(name: str, reasons: Sequence[Reason]) -> None:
    if reasons:
        raise NotMigratable(name, reasons)


def _boot_disk(vm: Vm, disks: Sequence[BlockSource]) -> BlockSource:
    if not disks:
        raise MigrateError(f"{vm.name} has no disk to read")
    return disks[0]


def _described(vm: Vm) -> str:
    parts = [vm.name, size(vm.disks[0].size)]
    parts += [vm.firmware.value.upper()] if vm.firmware else []
    return ", ".join(parts)


@dataclass(slots=True)
class _Timed:
    name: str
    summary: str = ""


@contextmanager
def _timed(run: Run, outcome: Outcome, name: str) -> Iterator[_Timed]:
    with run.stage(name) as stage:
        timed = _Timed(name)
        yield timed
        stage.summary = timed.summary
    outcome.seconds[name] = round(stage.seconds, 1)
