"""`worker`: a process that runs VMs of batches in a database that several hosts share."""

from pathlib import Path

import click

from migrate.batch.runner import Settings, end_process, run_worker
from migrate.batch.runner_moves import wired_mover
from migrate.batch.store import open_store
from migrate.batch.store_claims import Claim
from migrate.batch.workers import Membership
from migrate.cli.batch.options import database_option
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import STOPPED, print_lines, running
from migrate.errors import UsageError
from migrate.lines import Line
from migrate.run import Event, Note, StageDone
from migrate.text import shown


@click.command(short_help="Run VMs of batches that several hosts share.")
@database_option
@click.option(
    "--batch", "names", multiple=True, metavar="NAME", help="Only of this batch; may be repeated. Default: all."
)
@work_option
@output_option
def worker(database: str | None, names: tuple[str, ...], work: Path, output: str) -> None:
    """Run VMs of the batches in a PostgreSQL database, with as many workers on as many hosts as you like, until Ctrl-C or SIGTERM.

    Each host keeps its own work folder. When a worker dies, another one goes on with its VMs within a minute.

    \b
    Example: magalu-migrate worker --database postgresql://migrate@db.example/migrate
    """
    with running(output) as run:
        if database is None:
            raise UsageError(
                "a worker needs a database that others reach, too",
                hint="--database postgresql://USER@HOST/NAME. On one host alone: magalu-migrate batch run FILE",
            )

        def watch(claim: Claim, event: Event) -> None:
            match event:
                case StageDone(stage=stage, summary=summary):
                    run.tell(Note(f"{claim.vm}: {stage}: {summary}"))
                case Note(text=text, level=level):
                    run.tell(Note(f"{claim.vm}: {text}", level))

        def ready(member: Membership) -> None:
            run.tell(Note(f"worker {member.id} is ready"))

        with open_store(database, work) as store, wired_mover() as mover:
            ended = run_worker(run, store, work, mover, Settings(batches=names or None), watch, ready)
            if ended.left:
                print_lines([Line(f"ended; others go on with {shown(', '.join(ended.left))}")])
                end_process(STOPPED)
