"""The way of one VM: describe, freeze, repair, prove, transfer, import, launch. Each stage's second call is cheap.

A stage's result is written down before the next starts, so that a second run of the same request goes on where the first one
ended: whatever is finished and still true is not done again. Every refusal comes before anything is copied.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from pydantic import JsonValue

from migrate.blocks import Disk
from migrate.convert import make_overlay, move_overlay
from migrate.data_disks import (
    DataDisks,
    data_disk_reasons,
    forget_data_disks,
    leave_data_disks,
    send_data_disk,
    told_data_disks,
    unsent,
)
from migrate.errors import GuestError, MigrateError, NotMigratable, ProofFailed, Reason, TargetError
from migrate.estimate import estimate
from migrate.job import Job
from migrate.launch import launch_reasons, launched
from migrate.look import boot_disk, described, examined, frozen_words, looked, named, served_all
from migrate.nbd import Counted, counted, counts_left, served
from migrate.order import Order, Rooms
from migrate.outcome import Frozen, Imported, JsonObject, Outcome, Proven, Repaired, Sent
from migrate.preview import changes_json, changes_value, kept_changes
from migrate.qcow2 import packer
from migrate.refusals import check_plan, kept_findings, refusals, refuse, target_reasons
from migrate.remediate import preview as previewed
from migrate.remediate import remediate
from migrate.run import Note, Run
from migrate.source import BlockSource, Firmware, Source, Vm, check_unchanged
from migrate.target import ObjectRef, Requirements
from migrate.text import counted as counted_noun
from migrate.text import size
from migrate.transfer import Place, transfer


def migrate(run: Run, job: Job, source: Source, rooms: Rooms, order: Order) -> Outcome:
    """The VM's boot disk is an active image of the target, repaired and, where wanted, proven.

    Raise NotMigratable before anything is copied; ProofFailed where the disk does not come up (nothing is uploaded then).
    """
    outcome = Outcome()
    with _timed(run, outcome, "describe") as stage:
        vm = outcome.vm = source.describe(order.ref)
        stage.summary = described(vm)
    sent = job.result("transfer", Sent)
    reasons = data_disk_reasons(vm) if order.data_disks is DataDisks.REFUSE else []
    reasons += [doubt for doubt in vm.doubts if doubt.code not in order.settings.waive]
    reasons += target_reasons(order, vm.firmware, sent.bytes if sent else None)
    needs = _needs(vm, vm.disks[0].size)
    if order.launch is not None:
        reasons += launch_reasons(run, job, order.launch, vm, needs)
    if reasons and source.freezes_nothing and job.result("remediate", Repaired) is None:
        reasons += _guest_reasons(run, job, source, vm, rooms, order)
    refuse(vm.name, reasons)
    # A live VM has changed since; what was asked for is there all the same, and nothing must be frozen to see that.
    imported = None if source.freezes_nothing else _imported_before(run, job, order)
    if imported is None:
        imported = _moved(run, job, source, rooms, order, outcome, vm)
    else:
        _give_back(job, source)
    outcome.repaired = job.needed("remediate", Repaired)
    outcome.proven = job.result("prove", Proven)
    outcome.sent = job.needed("transfer", Sent)
    outcome.data_disks = told_data_disks(job, vm)
    outcome.bytes_read = job.bytes_read
    outcome.imported = imported
    outcome.status = "active"
    if order.launch is not None:
        outcome.launched = launched(run, job, order.launch, outcome, vm, needs, imported)
    return outcome


def _moved(run: Run, job: Job, source: Source, rooms: Rooms, order: Order, outcome: Outcome, vm: Vm) -> Imported:
    """The image is active, and what was frozen is given back. What ends before the guest is repaired gives it back at once: there is nothing to
    go on with."""
    with _timed(run, outcome, "freeze") as stage:
        token = source.freeze(vm, job.mark)
        stage.summary = frozen_words(source)
    try:
        if job.result("freeze", Frozen) != Frozen(token=token):
            _begin_again(job, order)  # another disk than last time
            job.finish("freeze", Frozen(token=token))
        imported = _imported_before(run, job, order)
        if imported is None:
            _prepare(run, job, source, token, rooms, order, outcome, vm)
            imported = _import(run, job, order, outcome, vm)
    except MigrateError:
        if job.result("remediate", Repaired) is None:
            source.release(token)
        raise
    job.overlay.unlink(missing_ok=True)
    source.release(token)
    return imported


def _give_back(job: Job, source: Source) -> None:
    """What was frozen is given back where the run that imported the image ended before it did so."""
    job.overlay.unlink(missing_ok=True)
    frozen = job.result("freeze", Frozen)
    at_source = any("/" in made.kind for made in job.ledger.left())  # as in "vmware/snapshot"
    if frozen is not None and at_source:
        source.release(frozen.token)


def _guest_reasons(run: Run, job: Job, source: Source, vm: Vm, rooms: Rooms, order: Order) -> list[Reason]:
    """Return why the guest would be refused, for a VM that is refused anyhow: all that must be mended is said at once."""
    with run.stage("look") as stage:
        try:
            found = looked(run, source, source.freeze(vm, job.mark), vm, rooms, order.remediations, order.settings)
        except NotMigratable as refusal:
            return list(refusal.reasons)
        except GuestError as error:
            run.tell(Note(f"the guest could not be looked at: {error}", "warning"))
            return []
        stage.summary = found.os.pretty or found.os.id
    return refusals(found.changes.findings, strict=order.strict)


def _begin_again(job: Job, order: Order) -> None:
    """Nothing of an earlier run counts: what was sent of another overlay must not be gone on with, for it was another disk."""
    job.forget("remediate", "prove", "transfer", "import")
    job.overlay.unlink(missing_ok=True)
    _place(job, order).forget()
    forget_data_disks(job)


def _place(job: Job, order: Order) -> Place:
    return Place(f"{order.name}.qcow2", job.folder, order.keep_image)


def _imported_before(run: Run, job: Job, order: Order) -> Imported | None:
    imported = job.result("import", Imported)
    if imported is None:
        return None
    if order.target.status(imported.id) == "active":
        run.tell(Note(f"image {imported.name} was imported by an earlier run"))
        _settle(job, order, imported, job.needed("transfer", Sent))
        return imported
    run.tell(Note(f"image {imported.name} ({imported.id}) of an earlier run is gone; it is made anew", "warning"))
    _begin_again(job, order)
    return None


def _prepare(
    run: Run, job: Job, source: Source, token: str, rooms: Rooms, order: Order, outcome: Outcome, vm: Vm
) -> None:
    """The overlay is repaired, proven where that is wanted, and sent: whatever of it is not done."""
    job.count_read(counts_left(job.folder))
    sent = job.result("transfer", Sent)
    stored = sent is not None and order.target.stored(sent.key, sent.mark) is not None
    boots = stored and (order.prover is None or job.result("prove", Proven) is not None)
    # Where all of it is sent, the overlay is not needed: another host may have had it (a batch goes on without a dead one's disk).
    repaired = job.result("remediate", Repaired) if job.overlay.exists() or boots else None
    if repaired is None:
        _begin_again(job, order)
        boots = False
    else:
        check_plan(order, vm, kept_changes(repaired.changes))
        refuse(vm.name, refusals(kept_findings(job, repaired, order.settings), strict=order.strict))
        run.tell(Note("the repairs of an earlier run are used"))
        if not stored:
            job.forget("transfer")
    left = unsent(job, vm, order.target) if order.data_disks is DataDisks.UPLOAD else ()
    if boots and not left:
        return
    with source.frozen(token) as disks:
        still = partial(check_unchanged, source, token)
        if not boots:
            _prepare_boot_disk(run, job, disks, rooms, order, outcome, vm, repaired, still)
        for number in left:
            _send_data_disk(run, job, disks, order, outcome, number, still)


def _prepare_boot_disk(
    run: Run,
    job: Job,
    disks: Sequence[BlockSource],
    rooms: Rooms,
    order: Order,
    outcome: Outcome,
    vm: Vm,
    repaired: Repaired | None,
    still: Callable[[], None],
) -> None:
    with boot_disk(vm, disks).nbd() as uri, _counted(run, job, uri) as disk:
        if repaired is None:
            make_overlay(run, job.overlay, disk.uri)
            try:
                with disk.kept(), served_all(disks[1:]) as data, ExitStack() as stack:
                    counted_data = [stack.enter_context(_counted(run, job, each)).uri for each in data]
                    repaired = _repaired(run, job, rooms, order, outcome, vm, disk.uri, counted_data)
            except BaseException:
                job.overlay.unlink(missing_ok=True)  # it holds a guest that is half repaired, or none
                raise
        else:
            move_overlay(run, job.overlay, disk.uri)
        with served(run, job.overlay) as merged:
            with disk.kept():
                _prove(run, job, order, outcome, merged, repaired)
            if job.result("transfer", Sent) is None:
                _send(run, job, order, outcome, vm, merged, repaired, still)


def _send_data_disk(
    run: Run,
    job: Job,
    disks: Sequence[BlockSource],
    order: Order,
    outcome: Outcome,
    number: int,
    still: Callable[[], None],
) -> None:
    """A data disk, by its number from 2 on, is an object beside the image, as it is: read once, packed, and sent while it is read."""
    if len(disks) < number:
        raise MigrateError(f"disk {number} of the VM was described, and only {len(disks)} disks were opened")
    with (
        _timed(run, outcome, f"data disk {number}") as stage,
        disks[number - 1].nbd() as uri,
        _counted(run, job, uri) as counted_disk,
    ):
        sent = send_data_disk(
            run, job, counted_disk.uri, order.target, order.name, number, stage.name, order.compression, still
        )
        stage.summary = (
            f"{size(sent.bytes)} for a disk of {size(sent.virtual_bytes)}, as {sent.key} in bucket {sent.bucket}"
        )


@contextmanager
def _counted(run: Run, job: Job, uri: str) -> Iterator[Counted]:
    """What is read of the disk that the block sees is added to the job's count."""
    with ExitStack() as stack:
        stack.callback(lambda: job.count_read(disk.bytes_read))
        disk = stack.enter_context(counted(run, uri, job.folder))
        yield disk


def _repaired(
    run: Run, job: Job, rooms: Rooms, order: Order, outcome: Outcome, vm: Vm, uri: str, data: Sequence[str]
) -> Repaired:
    """Look, refuse or repair, and look again: a repaired guest that still wants a change is not what was promised."""
    with (
        _timed(run, outcome, "remediate") as stage,
        named(vm),
        rooms.repair(run, uri, job.overlay, vm.firmware, data) as repair,
    ):
        before = examined(run, vm, repair.guest, order.remediations, order.settings)
        firmware = before.layout.firmware
        refuse(vm.name, refusals(before.changes.findings, strict=order.strict))
        check_plan(order, vm, changes_value(before.changes))
        changes = remediate(run, repair.guest, order.remediations, order.settings, stage.name)
        whole = tuple(finding for finding in before.changes.findings if not finding.by)
        changes = replace(changes, findings=(*changes.findings, *whole))
        after = previewed(run, repair.guest, order.remediations, order.settings)
        if after.effects:
            unmet = ", ".join(sorted({effect.by for effect in after.effects}))
            raise GuestError(
                f"{vm.name}: after the repair, a second look still wants changes ({unmet})",
                hint="Nothing was uploaded. See them with `magalu-migrate preview`; leave one out with --skip NAME.",
            )
        repair.finish()
        stage.summary = f"{counted_noun(len(changes.effects), 'change')}; a second look finds nothing left to change"
    repaired = Repaired(
        changes=cast(JsonObject, changes_json(changes)),
        firmware=firmware,
        login=before.login,
        root_grows=not any(finding.code in order.no_growth for finding in changes.findings),
    )
    job.finish("remediate", repaired)
    return repaired


def _prove(run: Run, job: Job, order: Order, outcome: Outcome, uri: str, repaired: Repaired) -> None:
    """Boot the repaired disk itself, before anything of it is sent."""
    if order.prover is None or job.result("prove", Proven) is not None:
        return
    with _timed(run, outcome, "prove") as stage:
        proof = order.prover(run, uri, firmware=repaired.firmware, user=repaired.login, root_grows=repaired.root_grows)
        if not proof["held"]:
            outcome.proven = Proven(proof=proof)
            reasons = (
                "; ".join(str(reason) for reason in cast(list[JsonValue], proof["reasons"])) or "no reason was found"
            )
            console = job.folder / "console.txt"
            console.write_text("\n".join(str(line) for line in cast(list[JsonValue], proof["console"])) + "\n")
            raise ProofFailed(
                f"{order.name}: the repaired disk was booted and does not come up as it must: {reasons}",
                hint=f"Nothing was uploaded. What it wrote to its console: {console}",
                proof=proof,
            )
        stage.summary = f"{proof['summary']}"
    job.finish("prove", Proven(proof=proof))


def _send(
    run: Run,
    job: Job,
    order: Order,
    outcome: Outcome,
    vm: Vm,
    uri: str,
    repaired: Repaired,
    still: Callable[[], None],
) -> None:
    """Read the repaired disk once, pack it, and send it while it is read; it is no object before `still` has said that it is one disk."""
    place = _place(job, order)
    with _timed(run, outcome, "transfer") as stage:
        if not place.journal.exists():
            _foretell(run, order, vm, uri, repaired.firmware)
        made = transfer(run, uri, order.target, place, stage.name, order.compression, still)
        virtual_bytes = made.blocks.disk_bytes
        stage.summary = f"{size(made.stored.bytes)} for a disk of {size(virtual_bytes)}, as {made.stored.key} in bucket {made.stored.bucket}"
    made.blocks.write(job.blocks)
    job.finish(
        "transfer",
        Sent(
            bucket=made.stored.bucket,
            key=made.stored.key,
            bytes=made.stored.bytes,
            mark=made.stored.mark,
            virtual_bytes=virtual_bytes,
            disk_sha256=made.blocks.digest,
            kept=order.keep_image,
        ),
    )
    place.forget()


def _foretell(run: Run, order: Order, vm: Vm, uri: str, firmware: Firmware) -> None:
    """Say how large the image will be. Raise NotMigratable where it cannot fit."""
    with Disk(uri) as disk:
        expected = estimate(run, disk, packer(order.compression))
    run.tell(
        Note(
            f"{size(expected.read)} are to be read; the image will have about {size(expected.expected)} "
            f"({size(expected.low)} to {size(expected.high)})"
        )
    )
    refuse(vm.name, target_reasons(order, firmware, expected.low))


def _import(run: Run, job: Job, order: Order, outcome: Outcome, vm: Vm) -> Imported:
    """Import the object; then it goes, because an active image needs it no more."""
    repaired, sent = job.needed("remediate", Repaired), job.needed("transfer", Sent)
    with _timed(run, outcome, "import") as stage:
        try:
            image = order.target.import_image(
                sent.ref,
                name=order.name,
                disk_sha256=sent.disk_sha256,
                firmware=repaired.firmware,
                requirements=_needs(vm, sent.virtual_bytes),
                description=f"{vm.name} from {vm.origin}" + (f": {vm.description}" if vm.description else ""),
            )
        except TargetError as error:
            kept = "Everything else is done and kept: run the same command again and only the import is tried."
            error.hint = f"{error.hint} {kept}" if error.hint else kept
            raise
        stage.summary = f"{image.name} is {image.status} ({image.id})"
    imported = Imported.of(image, object_kept=order.keep_object)
    job.finish("import", imported)  # first: a run that ends before the object is gone must find that the image is there
    _settle(job, order, imported, sent)
    return imported


def _settle(job: Job, order: Order, imported: Imported, sent: Sent) -> None:
    """The image is the user's, and the object gone, or theirs, too. A second call finds nothing to do."""
    if not any(made.kind in ("image", "upload", "object") for made in job.ledger.left()):
        return
    job.ledger.gone("image", name=imported.name)  # `clean` must never take it back
    if imported.object_kept:
        for kind in ("upload", "object"):
            job.ledger.gone(kind, bucket=sent.bucket, key=sent.key)
    else:
        order.target.discard(sent.ref)
    leave_data_disks(job)
    for made in job.ledger.left():
        if made.kind in ("upload", "object"):  # begun before the image got this name (`batch retry --name`)
            order.target.discard(ObjectRef(made.names["bucket"], made.names["key"], 0, ""))


def _needs(vm: Vm, disk_bytes: int) -> Requirements:
    """What an instance of the VM needs; the least there is of what the source does not say."""
    return Requirements(
        vcpu=vm.vcpus or 1,
        ram_gb=math.ceil((vm.memory_bytes or 1 << 30) / (1 << 30)),
        disk_gb=math.ceil(disk_bytes / 10**9),
    )


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
