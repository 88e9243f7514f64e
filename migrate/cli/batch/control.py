"""`batch pause`, `resume`, `cancel`, `retry`: what workers are asked from any terminal."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from migrate.batch import control
from migrate.batch.store import open_store
from migrate.batch.workers import others
from migrate.cli.batch.options import batch_option, chosen, database_option
from migrate.cli.options import work_option
from migrate.cli.terminal import print_lines, running
from migrate.lines import Line
from migrate.text import counted, shown

vms_argument = click.argument("vms", nargs=-1, metavar="[VM]...")
NOBODY = Line("No worker runs now. It happens when one does: magalu-migrate batch run, or worker.", "yellow")


def _on_batch(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed((vms_argument, batch_option, database_option, work_option)):
        command = option(command)
    return command


@click.command(short_help="Stop VMs, or the whole batch, until `batch resume`.")
@_on_batch
def pause(vms: tuple[str, ...], name: str | None, database: str | None, work: Path) -> None:
    """Stop these VMs, or the whole batch, within seconds. What is done of them is kept; `batch resume` goes on.

    \b
    Example: magalu-migrate batch pause erp07 crm02
    """
    with running("text"), open_store(database, work) as store:
        batch = chosen(store, name)
        count = control.pause(store, batch, vms)
    print_lines([Line(f"{shown(batch)}: {counted(count, 'VM')} paused. Go on: magalu-migrate batch resume")])


@click.command(short_help="Go on with what was paused.")
@_on_batch
def resume(vms: tuple[str, ...], name: str | None, database: str | None, work: Path) -> None:
    """Go on with these VMs, or with the whole batch.

    \b
    Example: magalu-migrate batch resume
    """
    with running("text"), open_store(database, work) as store:
        batch = chosen(store, name)
        count = control.resume(store, batch, vms)
        alone = not others(store)
    print_lines([Line(f"{shown(batch)}: {counted(count, 'VM')} may go on."), *([NOBODY] if alone and count else [])])


@click.command(short_help="Stop VMs, or the whole batch, for good, and take back what they made.")
@_on_batch
@click.option("--yes", is_flag=True, help="Do not ask before the whole batch is cancelled.")
def cancel(vms: tuple[str, ...], name: str | None, database: str | None, work: Path, yes: bool) -> None:
    """Stop these VMs, or all that have not ended, for good. What they made at the source and in the cloud is taken back; images that are active stay.

    \b
    Example: magalu-migrate batch cancel web11
    """
    with running("text"), open_store(database, work) as store:
        batch = chosen(store, name)
        if not vms and not yes:
            click.confirm(f"Cancel every VM of {shown(batch)} that has not ended?", abort=True)
        now, later = control.cancel(store, batch, vms)
        alone = not others(store)
    print_lines(
        [
            Line(f"{shown(batch)}: {counted(now, 'VM')} cancelled that had made nothing yet."),
            *([Line(f"{counted(later, 'VM')} end now, and what they made is taken back.")] if later else []),
            *([NOBODY] if alone and later else []),
        ]
    )


@click.command(short_help="Run again what failed.")
@_on_batch
@click.option(
    "--image", "--name", "image", metavar="NAME", help="Another name for the image of the one VM that is named."
)
def retry(vms: tuple[str, ...], name: str | None, database: str | None, work: Path, image: str | None) -> None:
    """Run these VMs again, or all that failed. What they have done is used: only what is missing is done.

    \b
    Example: magalu-migrate batch retry web11 --name web11-b
    """
    with running("text"), open_store(database, work) as store:
        batch = chosen(store, name)
        count = control.retry(store, batch, vms, image)
        alone = not others(store)
    print_lines([Line(f"{shown(batch)}: {counted(count, 'VM')} to run again."), *([NOBODY] if alone and count else [])])
