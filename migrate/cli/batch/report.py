"""`batch report`: what became of a batch, for people and for programs."""

import json
from pathlib import Path

import click

from migrate.batch.facts import BatchFacts
from migrate.batch.report import csv, html, junit, to_json
from migrate.batch.store import open_store
from migrate.batch.store_facts import facts
from migrate.cli.batch.options import chosen, database_option
from migrate.cli.options import work_option
from migrate.cli.terminal import print_lines, running
from migrate.lines import Line
from migrate.text import one_line, size
from migrate.whole_file import write_whole


@click.command(short_help="Write what became of a batch: a page, JSON, CSV, JUnit XML.")
@click.argument("name", required=False, metavar="[BATCH]")
@click.option(
    "--into",
    "folder",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where report.html, report.json, report.csv and report.xml are written.",
)
@database_option
@work_option
def report(name: str | None, folder: Path, database: str | None, work: Path) -> None:
    """Write what became of a batch, at any time: report.html (one page that needs no network), report.json, report.csv and report.xml (JUnit).

    Each VM with its stages, findings, changes, proof, hashes, the network that it had, and what is left to do.

    \b
    Example: magalu-migrate batch report --into reports
    """
    with running("text"), open_store(database, work) as store:
        found = facts(store, chosen(store, name))
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in _files(found):
            write_whole(folder / file, text.encode())
            print_lines([Line(f"{one_line(str(folder / file))}  {size(len(text.encode()))}")])


def _files(found: BatchFacts) -> tuple[tuple[str, str], ...]:
    return (
        ("report.html", html(found)),
        ("report.json", json.dumps(to_json(found), indent=1)),
        ("report.csv", csv(found)),
        ("report.xml", junit(found)),
    )
