"""One VM's migration from a request to its outcome, as `vm` and a batch run it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from adapters.magalu import MagaluTarget
from adapters.magalu.uploads import at_once
from migrate import hidden
from migrate.bandwidth import Throttle, limit
from migrate.errors import MigrateError, Stopped
from migrate.job import Job, Jobs, blank_jobs_go
from migrate.launch import Launch
from migrate.order import Order
from migrate.outcome import Outcome
from migrate.pipeline import migrate
from migrate.preview import Approval
from migrate.run import Run
from migrate.telemetry import observed
from migrate.text import shown
from migrate.wiring.guests import NO_GROWTH, REMEDIATIONS, Host, check_repairs, rooms
from migrate.wiring.proofs import prover
from migrate.wiring.request import VmRequest, image_name
from migrate.wiring.sources import is_of_source, source, take_back_source
from migrate.wiring.targets import Place, cloud, place_of, take_back, target


def job_of(run: Run, request: VmRequest, work: Path) -> Job:
    """Return the job of a request, made where there is none yet.

    What the request says wrong and what forbids the VM's move at a glance is raised first, so that it leaves nothing behind.
    """
    _ = request.settings, request.offers
    check_repairs(request.room)
    quiet = Run(run.work, stop=run.stop)
    with source(quiet, request.address, request.disk_format, options=request.source) as (first, ref):
        first.describe(ref)
    where = cloud(run, _place(request, work))
    return Jobs(work).find(ref.name, request.model_copy(update={"address": ref.address}).key(where))


def migrate_vm(
    run: Run,
    job: Job,
    request: VmRequest,
    work: Path,
    host: Host,
    approved: Approval | None = None,
    sent: Callable[[int], object] = at_once,
) -> Outcome:
    """Bring the job to its end: an active image. A second call goes on where the first one ended. `sent` is told how many bytes go, piece by piece.

    Raise UsageError where another process runs the job, and what migrate.pipeline.migrate raises.
    """
    labels = {"vm.name": job.name, "vm.address": hidden.sentence(request.address)}
    with (
        job.locked(),
        blank_jobs_go(job),
        job.scratch() as scratch,
        observed(Run(scratch, run.listener, run.stop), "migrate vm", **labels) as (inner, telemetry),
    ):
        if request.bandwidth is not None:
            limit(job.bandwidth, request.bandwidth)
        throttle = Throttle(job.bandwidth, run.stop.wait)

        def sending(count: int) -> None:
            throttle.take(count)
            telemetry.sent(count)
            sent(count)

        with (
            source(inner, request.address, request.disk_format, job.ledger, request.source) as (opened, ref),
            target(inner, _place(request, work), job.ledger, sending) as cloud_target,
        ):
            order = Order(
                ref=ref,
                name=job.named(image_name(ref.name) if request.name is None else request.name),
                settings=request.settings,
                target=cloud_target,
                prover=prover(host) if request.prove else None,
                remediations=REMEDIATIONS,
                no_growth=NO_GROWTH,
                keep_object=request.keep_object,
                data_disks=request.data_disks,
                compression=request.compression,
                keep_image=request.keep_image,
                approved=Approval(request.approve) if approved is None and request.approve else approved,
                strict=request.strict,
                launch=_launch(request, cloud_target),
            )
            try:
                return migrate(inner, job, opened, rooms(host, request.room, request.offers, request.root), order)
            except Stopped as stopped:
                if not job.is_blank:
                    stopped.hint = (
                        "What is done is kept: the same command goes on, and `magalu-migrate clean` takes it back."
                    )
                raise


def take_back_job(run: Run, job: Job, work: Path, told: Callable[[str], None], again: str) -> None:
    """What the job made is gone, at its source and in the cloud, and the job with it. `told` hears what could not be deleted in the cloud.

    Raise MigrateError, with `again` as what to do, where something could not be taken back at the source: the job still knows of it then.
    """
    with job.locked():
        job.sweep()
        left = job.ledger.left()
        there = [made for made in left if is_of_source(made)]
        here = [made for made in left if not is_of_source(made)]
        kept = list(take_back_source(run, job.request, there, job.ledger)) if there else []
        if here:
            with target(run, place_of(job.request, work), job.ledger) as opened:
                for text in take_back(opened, here):
                    told(text)
        if kept:
            raise MigrateError("; ".join(map(shown, kept)), hint=again)
        job.delete()


def _place(request: VmRequest, work: Path) -> Place:
    return Place(request.sandbox, request.region, request.bucket, request.size_limit, work, request.sandbox_key)


def _launch(request: VmRequest, target: MagaluTarget) -> Launch | None:
    if request.launch is None:
        return None
    key = request.sandbox_key
    options = request.launch if key is None else replace(request.launch, ssh_key=key.stem)
    return Launch(target.launcher, options)
