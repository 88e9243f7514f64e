"""`batch check`: everything that is wrong with a batch, before anything is started."""

import sys
from pathlib import Path

import click

from migrate.batch.check import check as checked
from migrate.batch.check import to_json
from migrate.batch.check_screen import lines
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import print_json, print_lines, running


@click.command(short_help="Show what is wrong with a batch, and what each VM will take.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--all", "everything", is_flag=True, help="A row for each VM, however many there are.")
@work_option
@output_option
def check(file: Path, everything: bool, work: Path, output: str) -> None:
    """Show what is wrong with a batch file, each mistake at its line; then which VMs can go, why others cannot, and what it will take.

    Sources are asked; nothing is started, and nothing is made anywhere. Exit code 0: all can go; 2: the file is wrong; 3: a VM is refused;
    1: something could not be asked.

    \b
    Example: magalu-migrate batch check wave-2.yaml
    """
    with running(output) as run:
        found = checked(run, file, work)
    if output == "json":
        print_json(to_json(found))
    else:
        print_lines(lines(found, everything=everything))
    if found.exit_code:
        sys.exit(found.exit_code)
