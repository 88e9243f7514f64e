"""What becomes of a VM's data disks: an image holds the boot disk only, and none of the others is ever left behind without being asked for."""

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from migrate.errors import Reason
from migrate.job import Job
from migrate.outcome import DataDisk, DiskSent
from migrate.qcow2 import Compression
from migrate.run import Run
from migrate.source import Disk, Vm
from migrate.target import Target
from migrate.text import shown, size
from migrate.transfer import Place, transfer

CODE = "SRC-100"
SANDBOX = "sandbox"


class DataDisks(StrEnum):
    """What the user wants of them: nothing said, so that the VM is refused; left behind; or objects beside the image."""

    REFUSE = "refuse"
    SKIP = "skip"
    UPLOAD = "upload"


def data_disk_reasons(vm: Vm) -> list[Reason]:
    """Return why a VM is refused for which nothing was said: each of its data disks."""
    return [
        Reason(
            CODE,
            f'disk {number}, "{shown(disk.name)}" ({size(disk.size)}), is a data disk: a Magalu image holds the boot disk only.',
            "Send it, too, as a file beside the image, to be made a volume: --data-disks upload. Or leave it behind: --data-disks skip.",
        )
        for number, disk in _numbered(vm)
    ]


def unsent(job: Job, vm: Vm, target: Target) -> tuple[int, ...]:
    """Return the numbers of the data disks that are still to be sent. An object that is gone is forgotten."""
    left = []
    for number, _ in _numbered(vm):
        sent = job.result(_stage(number), DiskSent)
        if sent is not None and target.stored(sent.key, sent.mark) is None:
            job.forget(_stage(number))
            sent = None
        if sent is None:
            left.append(number)
    return tuple(left)


def send_data_disk(
    run: Run,
    job: Job,
    uri: str,
    target: Target,
    image: str,
    number: int,
    stage: str,
    compression: Compression,
    still: Callable[[], None],
) -> DiskSent:
    """The data disk behind an NBD endpoint is an object beside the image, as it is. A second call goes on where the first one ended.

    Raise TargetError where storage refuses, MigrateError where the disk cannot be read or is too large for an object.
    """
    place = _place(job, number, f"{image}-data{number - 1}.qcow2", target.object_limit)
    place.folder.mkdir(mode=0o700, exist_ok=True)
    made = transfer(run, uri, target, place, stage, compression, still)
    made.blocks.write(blocks_of(job, number))
    sent = DiskSent(
        number=number,
        bucket=made.stored.bucket,
        key=made.stored.key,
        bytes=made.stored.bytes,
        mark=made.stored.mark,
        virtual_bytes=made.blocks.disk_bytes,
        disk_sha256=made.blocks.digest,
    )
    job.finish(_stage(number), sent)
    place.forget()
    return sent


def sent_disk(job: Job, number: int) -> DiskSent | None:
    """Return what became of a data disk that was sent; None where it was not."""
    return job.result(_stage(number), DiskSent)


def blocks_of(job: Job, number: int) -> Path:
    """The block map of a data disk that was sent."""
    return _folder(job, number) / "blocks"


def forget_data_disks(job: Job) -> None:
    """Nothing of what was sent of data disks counts: they are of another moment than what comes."""
    for number in _sent_numbers(job):
        job.forget(_stage(number))
    for folder in job.folder.glob("data-*"):
        Place("", folder).forget()


def leave_data_disks(job: Job) -> None:
    """The objects are the user's now: `clean` must never take them back."""
    for number in _sent_numbers(job):
        sent = job.needed(_stage(number), DiskSent)
        for kind in ("upload", "object"):
            job.ledger.gone(kind, bucket=sent.bucket, key=sent.key)


def told_data_disks(job: Job, vm: Vm) -> tuple[DataDisk, ...]:
    """Return every data disk with what became of it."""
    region = job.request.get("region")
    named = str(region) if region and region != SANDBOX else None
    return tuple(DataDisk(number, disk, job.result(_stage(number), DiskSent), named) for number, disk in _numbered(vm))


def _numbered(vm: Vm) -> tuple[tuple[int, Disk], ...]:
    """The data disks with their numbers, from 2 on: the boot disk is the first."""
    return tuple(enumerate(vm.disks, 1))[1:]


def _sent_numbers(job: Job) -> Iterator[int]:
    for folder in sorted(job.folder.glob("data-*")):
        number = int(folder.name.removeprefix("data-"))
        if job.result(_stage(number), DiskSent) is not None:
            yield number


def _stage(number: int) -> str:
    return f"data disk {number}"


def _place(job: Job, number: int, key: str, limit: int) -> Place:
    return Place(key, _folder(job, number), limit=limit)


def _folder(job: Job, number: int) -> Path:
    return job.folder / f"data-{number}"
