"""`batch add`: more VMs for a batch that is there."""

from pathlib import Path

import click

from migrate.batch.resolve import resolve
from migrate.batch.store import open_store
from migrate.cli.batch.options import database_option
from migrate.cli.options import work_option
from migrate.cli.terminal import print_lines, running
from migrate.lines import Line
from migrate.text import counted, shown


@click.command(short_help="Add the VMs of a file to a batch.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--batch", "name", metavar="NAME", help="Which batch. Default: the one that the file names.")
@database_option
@work_option
def add(file: Path, name: str | None, database: str | None, work: Path) -> None:
    """Add the VMs of a file to a batch, whether it runs or not. Those that it has already stay as they are; its limits stay, too.

    \b
    Example: magalu-migrate batch add more.yaml --batch wave-2
    """
    with running("text") as run:
        found = resolve(run, file)
        with open_store(database, work) as store:
            known = store.add(name or found.name, found.vms)
    batch = shown(name or found.name)
    print_lines(
        [
            Line(f"{batch}: {counted(len(found.vms) - len(known), 'VM')} added."),
            *([Line(f"It had {len(known)} already: {shown(', '.join(known[:8]))}", "dim")] if known else []),
        ]
    )
