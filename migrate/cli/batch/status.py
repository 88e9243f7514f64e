"""`batch status`: where each VM stands."""

import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from migrate.batch.control_screen import headline, screen
from migrate.batch.facts import BatchFacts
from migrate.batch.store import open_store
from migrate.batch.store_facts import facts, to_json
from migrate.cli.batch.options import chosen, database_option
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import print_json, running

EVERY_S = 1.0
PLAIN_EVERY_S = 10.0
ROWS, WIDTH = 30, 160
"""Where there is no terminal that could say."""


@click.command(short_help="Show where each VM of a batch stands.")
@click.argument("name", required=False, metavar="[BATCH]")
@click.option("--watch", is_flag=True, help="Go on showing it until Ctrl-C or until all have ended.")
@click.option("--all", "everything", is_flag=True, help="A row for each VM, however many there are.")
@database_option
@work_option
@output_option
def status(name: str | None, watch: bool, everything: bool, database: str | None, work: Path, output: str) -> None:
    """Show where each VM of a batch stands: its stage, how far it is, how fast, and what it told last. Those that run or failed come first.

    \b
    Example: magalu-migrate batch status --watch
    """
    with running("json" if watch else output) as run, open_store(database, work) as store:
        batch = chosen(store, name)
        found = facts(store, batch, outcomes=output == "json", stages=output == "json")
        if output == "json":
            print_json(to_json(found))
            return
        console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=WIDTH)
        if not watch:
            console.print(screen(found, None if everything else _rows(console)))
            return
        if not console.is_terminal:
            while True:
                print(headline(found), flush=True)  # noqa: T201 - a line for a log
                if _has_ended(found) or run.stop.wait(PLAIN_EVERY_S):
                    return
                found = facts(store, batch, outcomes=False)
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                live.update(screen(found, None if everything else _rows(console)), refresh=True)
                if _has_ended(found) or run.stop.wait(EVERY_S):
                    return
                found = facts(store, batch, outcomes=False)


def _rows(console: Console) -> int:
    return shutil.get_terminal_size().lines - 4 if console.is_terminal and sys.stdout.isatty() else ROWS


def _has_ended(found: BatchFacts) -> bool:
    return all(vm.state.is_final for vm in found.vms)
