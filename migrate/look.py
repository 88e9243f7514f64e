"""A VM looked at: what `migrate` would do to its guest. Nothing is written but scratch of ours."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from migrate.blocks import Disk
from migrate.boot_menu import version_key
from migrate.draft import Draft
from migrate.effects import Finding, Severity
from migrate.errors import MigrateError, NotMigratable
from migrate.guest import Guest
from migrate.login import login_user
from migrate.order import Rooms
from migrate.preview import Preview
from migrate.remediate import preview as previewed
from migrate.remediate import waived
from migrate.remediation import Remediation, Settings
from migrate.run import Run
from migrate.source import BlockSource, Source, Vm, VmRef
from migrate.space import immutable, shortages
from migrate.stream import needed
from migrate.text import size


def look(
    run: Run, source: Source, ref: VmRef, rooms: Rooms, remediations: Sequence[Remediation], settings: Settings
) -> Preview:
    """Return what `migrate` would do to the guest. Nothing is written but scratch of ours."""
    with run.stage("describe") as stage:
        vm = source.describe(ref)
        stage.summary = described(vm)
    with run.stage("freeze") as stage:
        token = source.freeze(vm, ref.name)
        stage.summary = frozen_words(source)
    try:
        with run.stage("look") as stage:
            found = looked(run, source, token, vm, rooms, remediations, settings)
            stage.summary = found.os.pretty or found.os.id
    finally:
        source.release(token)
    return found


def looked(
    run: Run, source: Source, token: str, vm: Vm, rooms: Rooms, remediations: Sequence[Remediation], settings: Settings
) -> Preview:
    """Return the preview of a VM that is frozen. Raise NotMigratable where its guest cannot be opened."""
    with (
        source.frozen(token) as disks,
        boot_disk(vm, disks).nbd() as uri,
        served_all(disks[1:]) as data,
        named(vm),
        rooms.look(run, uri, vm.firmware, data) as guest,
    ):
        with Disk(uri) as disk:
            read = needed(disk)
        return replace(examined(run, vm, guest, remediations, settings), read_bytes=read)


@contextmanager
def named(vm: Vm) -> Iterator[None]:
    """A guest that cannot be opened is refused by its VM's name; where the VM has further disks, their numbers are explained."""
    try:
        yield
    except NotMigratable as refusal:
        if refusal.subject == vm.name:
            raise
        numbered = enumerate(vm.disks, 1) if vm.disks[1:] else ()
        more = [f'disk {number} is "{disk.name}" ({size(disk.size)})' for number, disk in numbered]
        first, *others = refusal.reasons
        raise NotMigratable(vm.name, [replace(first, details=(*first.details, *more)), *others]) from refusal


def examined(run: Run, vm: Vm, guest: Guest, remediations: Sequence[Remediation], settings: Settings) -> Preview:
    """Return the preview of an open guest."""
    changes = previewed(run, guest, remediations, settings)
    doubts = (Finding("", doubt.code, Severity.ERROR, doubt.text, doubt.remedy) for doubt in vm.doubts)
    more = (*doubts, *immutable(guest, changes.effects), *shortages(guest.layout, changes.effects))
    changes = replace(changes, findings=(*changes.findings, *waived(more, settings.waive)))
    draft = Draft(guest)
    kernels = tuple(sorted(draft.names("/lib/modules"), key=version_key))
    return Preview(vm, guest.os, guest.layout, kernels, login_user(draft, changes.facts), changes)


@contextmanager
def served_all(disks: Sequence[BlockSource]) -> Iterator[list[str]]:
    """Serve disks, and yield their URIs."""
    with ExitStack() as stack:
        yield [stack.enter_context(disk.nbd()) for disk in disks]


def boot_disk(vm: Vm, disks: Sequence[BlockSource]) -> BlockSource:
    """Return the first of the opened disks."""
    if not disks:
        raise MigrateError(f"{vm.name} has no disk to read")
    return disks[0]


def described(vm: Vm) -> str:
    """Return what stands behind the stage "describe"."""
    parts = [vm.name, size(vm.disks[0].size)]
    parts += [vm.firmware.value.upper()] if vm.firmware else []
    return ", ".join(parts)


def frozen_words(source: Source) -> str:
    """Return what stands behind the stage "freeze"."""
    return (
        "every checksum and table that the files have is sound"
        if source.freezes_nothing
        else "what is read stands still now; the VM goes on"
    )
