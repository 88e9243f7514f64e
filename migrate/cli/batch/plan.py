"""`batch plan`: the previews of all VMs of a batch, in one folder."""

import sys
from pathlib import Path

import click

from migrate.batch.plan import INDEX, exit_code
from migrate.batch.plan import plan as planned
from migrate.batch.plan_file import NAME, PlanFile
from migrate.batch.resolve import resolve
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import print_json, print_lines, running
from migrate.lines import Line
from migrate.text import one_line

MOST_NAMED = 20


@click.command(short_help="Write the previews of all VMs into one folder.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--into",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Where they are written; made if missing. A second run goes on there.",
)
@click.option("--at-once", type=click.IntRange(1, 16), default=2, show_default=True, help="How many VMs are looked at.")
@click.option("--again", is_flag=True, help="Make previews anew that are there already.")
@work_option
@output_option
def plan(file: Path, into: Path, at_once: int, again: bool, work: Path, output: str) -> None:
    """Write a preview of each VM into one folder, as a page and as JSON, with an index of them and plan.json, which has each plan's hash.

    Nothing is changed anywhere else. A VM that cannot be looked at stops no other. Exit code 0: all can go; 2: the file is wrong; 3: a VM is
    refused; 1: one could not be looked at.

    \b
    Example: magalu-migrate batch plan wave-2.yaml --into previews
    """
    with running(output) as run:
        found = planned(run, resolve(run, file), into, work, at_once=at_once, again=again)
    if output == "json":
        print_json(found.model_dump(mode="json", by_alias=True))
    else:
        print_lines(_lines(found, into))
    if code := exit_code(found):
        sys.exit(code)


def _lines(found: PlanFile, into: Path) -> list[Line]:
    states = [vm.status for vm in found.vms]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("can go", "refused", "failed") if state in states)
    told = [Line(f"{found.batch} · {counts}", "bold green" if set(states) <= {"can go"} else "bold red")]
    stopped = [vm for vm in found.vms if vm.status != "can go"]
    for vm in stopped[:MOST_NAMED]:
        why = ", ".join(dict.fromkeys(reason.code for reason in vm.reasons)) or (vm.error or "").partition("\n")[0]
        told.append(Line(f"  {vm.status:<8} {one_line(vm.id)}: {one_line(why)}", "red" if vm.reasons else "yellow"))
    if len(stopped) > MOST_NAMED:
        told.append(Line(f"  and {len(stopped) - MOST_NAMED} more; the page has them all", "dim"))
    told.append(Line(f"The pages: {one_line(str(into / INDEX))}"))
    told.append(Line(f"The plans' hashes: {one_line(str(into / NAME))}", "dim"))
    return told
