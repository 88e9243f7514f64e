"""`batch logs`: what a VM told, line by line."""

import json
from pathlib import Path

import click

from migrate.batch.facts import EventFacts
from migrate.batch.store import open_store
from migrate.batch.store_facts import events, facts
from migrate.cli.batch.options import batch_option, chosen, database_option
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import print_lines, running
from migrate.errors import UsageError
from migrate.lines import Line
from migrate.text import shown

STYLES = {"warning": "yellow", "error": "red"}
FOLLOW_S = 1.0


@click.command(short_help="Show what a VM told.")
@click.argument("vm", required=False)
@batch_option
@click.option("--follow", is_flag=True, help="Go on as more is told, until Ctrl-C or until the VM has ended.")
@click.option("--lines", "count", type=click.IntRange(min=1), default=200, show_default=True, help="The last so many.")
@database_option
@work_option
@output_option
def logs(
    vm: str | None, name: str | None, follow: bool, count: int, database: str | None, work: Path, output: str
) -> None:
    """Show what a VM told, or all of the batch: stages, notes, errors, and which worker it was.

    With --output json each line is one object.

    \b
    Example: magalu-migrate batch logs erp07 --follow
    """
    with running("text") as run, open_store(database, work) as store:
        batch = chosen(store, name)
        known = {one.id for one in facts(store, batch, outcomes=False).vms}
        if vm is not None and vm not in known:
            raise UsageError(
                f"batch {shown(batch)} has no VM {shown(vm)}", hint="`magalu-migrate batch status --all` lists them."
            )
        last = 0
        while True:
            has_ended = all(
                one.state.is_final for one in facts(store, batch, outcomes=False).vms if vm in (None, one.id)
            )
            for number, event in events(store, batch, vm, last, None if last else count):
                last = number
                _print(event, output, with_vm=vm is None)
            if not follow or has_ended or run.stop.wait(FOLLOW_S):
                return


def _print(event: EventFacts, output: str, *, with_vm: bool) -> None:
    if output == "json":
        values = {"at": event.at.isoformat(), "vm": event.vm, "level": event.level, "text": event.text}
        click.echo(json.dumps(values))
        return
    who = f"{shown(event.vm):<16} " if with_vm else ""
    print_lines([Line(f"{event.at:%m-%d %H:%M:%S} {who}{shown(event.text)}", STYLES.get(event.level, ""))])
