"""`clean`: what unfinished migrations left is taken back."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from migrate import show
from migrate.cli.options import work_option
from migrate.cli.terminal import FAILED, print_lines, running
from migrate.errors import MigrateError, Stopped, UsageError
from migrate.job import Job, Jobs
from migrate.lines import Line
from migrate.run import Run
from migrate.text import shown, size
from migrate.wiring.migration import take_back_job


@click.command(short_help="Take back what unfinished migrations left.")
@click.argument("name", required=False)
@click.option(
    "--all", "every", is_flag=True, help="Also jobs that are done: their images are deleted from this machine."
)
@click.option("--dry-run", is_flag=True, help="Only list.")
@work_option
def clean(name: str | None, every: bool, dry_run: bool, work: Path) -> None:
    """Take back what unfinished migrations left, here and in the cloud. Only what they made themselves is touched.

    \b
    Example: magalu-migrate clean --dry-run
    """
    with running("text") as run:
        jobs = [job for job in Jobs(work).all() if name in (None, job.name)]
        if name is not None and not jobs:
            raise UsageError(f"there is no job {name} in {work}", hint="`magalu-migrate clean --dry-run` lists all.")
        wanted = [job for job in jobs if every or name is not None or not job.is_done]
        kept = 0
        for job in wanted:
            run.check()
            print_lines(_job_lines(job))
            if dry_run:
                continue
            try:
                _clean(run, job, work)
            except Stopped:
                raise
            except MigrateError as error:  # the next one may well go
                kept += 1
                print_lines(Line(f"  kept: {text}") for text, _ in show.failure(error))
        if not wanted:
            print_lines([Line("nothing to clean: no unfinished migration has left anything")])
    if kept:
        sys.exit(FAILED)


def _job_lines(job: Job) -> Iterator[Line]:
    try:
        yield Line(
            f"{job.name}: {shown(str(job.request.get('address')))} as image {shown(job.image_name or '?')}", "bold"
        )
    except MigrateError:
        yield Line(f"{job.name}: its job.json cannot be read", "bold")
    for made in job.ledger.left():
        yield Line(f"  {made.kind} {shown('/'.join(made.names.values()))}")
    local = sum(path.stat().st_size for path in job.folder.iterdir() if path.is_file())
    yield Line(f"  {size(local)} in {job.folder}")


def _clean(run: Run, job: Job, work: Path) -> None:
    """What the job made is gone, and the job with it. Raise MigrateError where something could not be taken back: the job still knows of it then."""

    def told(text: str) -> None:
        print_lines([Line(f"  {shown(text)}", "yellow")])

    take_back_job(run, job, work, told, "Take it back by hand, or run clean again.")
    print_lines([Line("  gone", "green")])
