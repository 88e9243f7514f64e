"""A VM that is looked at and given back: what that makes at a live source stands in a job's ledger as long as it is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from migrate.address import parse
from migrate.run import Run
from migrate.source import Source, VmRef
from migrate.wiring.sources import SourceOptions, is_live
from migrate.wiring.sources import source as source_of


@contextmanager
def opened(
    run: Run, address: str, disk_format: str | None, work: Path, options: SourceOptions
) -> Iterator[tuple[Source, VmRef]]:
    """Open the source of an address with the one VM there. A live one gets a job, gone with what it made; `clean` finds what a dead run left.

    What is frozen there is named after the job: others may look at the same VM at the same time.
    """
    if not is_live(address):
        with source_of(run, address, disk_format) as found:
            yield found
        return
    from migrate.job import Jobs, blank_jobs_go  # and pydantic with it, which `convert` of a file does not need

    where = parse(address)
    name = (where.parts or (where.host,))[-1]
    job = Jobs(work).find(f"preview-{name}", {"address": address, "source": options.request(), "image": None})
    with (
        job.locked(),
        blank_jobs_go(job),
        source_of(run, address, disk_format, job.ledger, options) as (source, ref),
    ):
        yield source, replace(ref, name=job.mark)
