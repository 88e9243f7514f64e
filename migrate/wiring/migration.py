"""One VM's migration from a request to its outcome, as `vm` and a batch run it."""

from pathlib import Path

from migrate.bandwidth import Throttle, limit
from migrate.errors import Stopped
from migrate.job import Job, Jobs, blank_jobs_go
from migrate.outcome import Outcome
from migrate.pipeline import Order, migrate
from migrate.preview import Approval
from migrate.run import Run
from migrate.wiring.guests import NO_GROWTH, REMEDIATIONS, Host, rooms
from migrate.wiring.proofs import prover
from migrate.wiring.request import VmRequest, image_name
from migrate.wiring.sources import source
from migrate.wiring.targets import Place, cloud, target


def job_of(run: Run, request: VmRequest, work: Path) -> Job:
    """Return the job of a request, made where there is none yet.

    What the request says wrong and what forbids the VM's move at a glance is raised first, so that it leaves nothing behind.
    """
    _ = request.settings, request.offers
    quiet = Run(run.work, stop=run.stop)
    with source(quiet, request.address, request.disk_format, options=request.source) as (first, ref):
        first.describe(ref)
    where = cloud(run, _place(request, work))
    return Jobs(work).find(ref.name, request.model_copy(update={"address": ref.address}).key(where))


def migrate_vm(
    run: Run, job: Job, request: VmRequest, work: Path, host: Host, approved: Approval | None = None
) -> Outcome:
    """Bring the job to its end: an active image. A second call goes on where the first one ended.

    Raise UsageError where another process runs the job, and what migrate.pipeline.migrate raises.
    """
    with job.locked(), blank_jobs_go(job), job.scratch() as scratch:
        inner = Run(scratch, run.listener, run.stop)
        if request.bandwidth is not None:
            limit(job.bandwidth, request.bandwidth)
        sending = Throttle(job.bandwidth, run.stop.wait).take
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
                skip_data_disks=request.data_disks == "skip",
                compression=request.compression,
                keep_image=request.keep_image,
                approved=approved,
                strict=request.strict,
            )
            try:
                return migrate(inner, job, opened, rooms(host, request.room, request.offers, request.root), order)
            except Stopped as stopped:
                if not job.is_blank:
                    stopped.hint = (
                        "What is done is kept: the same command goes on, and `magalu-migrate clean` takes it back."
                    )
                raise


def _place(request: VmRequest, work: Path) -> Place:
    return Place(request.sandbox, request.region, request.bucket, request.size_limit, work)
