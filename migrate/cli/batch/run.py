"""`batch run`: a batch from its file to its end, in the foreground."""

import sys
from pathlib import Path

import click

from migrate.batch.control_screen import headline
from migrate.batch.facts import BatchFacts, VmState
from migrate.batch.plan_file import approved, check_held
from migrate.batch.resolve import resolve
from migrate.batch.runner import Ended, Settings, end_process, run_worker
from migrate.batch.runner_moves import wired_mover
from migrate.batch.store import Store, open_store
from migrate.batch.store_claims import Claim
from migrate.batch.store_facts import facts, to_json
from migrate.batch.workers import others
from migrate.cli.batch.options import chosen, database_option
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import FAILED, STOPPED, print_json, print_lines, running
from migrate.errors import NotMigratable, Stopped, UsageError
from migrate.lines import Line
from migrate.run import Event, Note, Run, StageDone
from migrate.text import counted, shown


@click.command(short_help="Move the VMs of a batch.")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--batch", "name", metavar="NAME", help="Without a file: which batch to go on with. Default: the newest.")
@click.option(
    "--approve",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER|FILE",
    help="Change each VM only as its preview of `batch plan` shows: the plan.json, or the folder that it is in.",
)
@database_option
@work_option
@output_option
def run(
    file: Path | None, name: str | None, approve: Path | None, database: str | None, work: Path, output: str
) -> None:
    """Move the VMs of a batch file, as many at once as its limits say, and end when all have come to an end.

    Ctrl-C stops it and keeps what is done; the same command, or `batch run` without a file, goes on. So does it after a crash. With --database several
    hosts may run it, or `magalu-migrate worker`, at a time. Exit code 0: all done; 1: a VM failed; 3: a VM was refused, and none failed; 130: stopped.

    \b
    Example: magalu-migrate batch run wave-2.yaml
    """
    code = 0
    with running(output) as running_, open_store(database, work) as store:
        batch = _submitted(running_, store, file, name, approve)
        _check_alone(store, batch)

        def watch(claim: Claim, event: Event) -> None:
            match event:
                case StageDone(stage=stage, summary=summary):
                    running_.tell(Note(f"{claim.vm}: {stage}: {summary}"))
                case Note(text=text, level=level):
                    running_.tell(Note(f"{claim.vm}: {text}", level))

        settings = Settings(batches=(batch,), until_done=True)
        with wired_mover() as mover:
            ended = run_worker(running_, store, work, mover, settings, watch)
        found = facts(store, batch, outcomes=output == "json", stages=output == "json")
        if running_.stop.is_set():
            _stopped(found, ended)
    if output == "json":
        print_json(to_json(found))
    else:
        print_lines(_summary(found))
    code = _code(found)
    if code:
        sys.exit(code)


def _submitted(run: Run, store: Store, file: Path | None, name: str | None, approve: Path | None) -> str:
    """Return the name of the batch, which has the VMs of the file."""
    if file is None:
        if approve is not None:
            raise UsageError(
                "--approve was given without a file", hint="What a batch was approved by is known since its first run."
            )
        return chosen(store, name)
    if name is not None:
        raise UsageError("a file and --batch were given", hint="The file names its batch; leave --batch out.")
    batch = resolve(run, file)
    if approve is not None:
        batch = approved(batch, approve)
        check_held(batch, store.planned(batch.name))
    new = store.submit(batch)
    run.tell(Note(f"{batch.name}: {counted(len(batch.vms), 'VM')}, {new} of them new"))
    return batch.name


def _check_alone(store: Store, batch: str) -> None:
    """Raise UsageError where another process of this host runs batches, and two would do twice what limits allow."""
    there = others(store)
    if there and not store.is_shared:
        raise UsageError(
            f"batches of this work folder are run by another process already: {', '.join(there)}",
            hint=f"Watch it: magalu-migrate batch status {shown(batch)} --watch. What the file brings that is new is taken up by it.",
        )


def _stopped(found: BatchFacts, ended: Ended) -> None:
    """Raise Stopped with what to do next; where VMs did not stop in time, the process ends here."""
    hint = f"{headline(found)}. What is done is kept. Go on: magalu-migrate batch run --batch {found.name}"
    if ended.left:
        print_lines([Line("stopped", "bold red"), Line(hint)])
        end_process(STOPPED)
    stopped = Stopped()
    stopped.hint = hint
    raise stopped


def _summary(found: BatchFacts) -> list[Line]:
    lines = [Line(headline(found), "bold green" if _code(found) == 0 else "bold red")]
    for vm in found.vms:
        if vm.state is VmState.FAILED:
            lines.append(Line(f"  {shown(vm.id)}: {shown(vm.error or '')}", "red"))
            lines += [Line(f"    {shown(vm.hint)}")] if vm.hint else []
        elif vm.state is VmState.REFUSED:
            lines += [Line(f"  {shown(vm.id)}: {one.code} {shown(one.text)}", "yellow") for one in vm.reasons]
    if found.counts.get(VmState.FAILED):
        lines.append(Line("Run again what failed: magalu-migrate batch retry, then batch run"))
    return lines


def _code(found: BatchFacts) -> int:
    if found.counts.get(VmState.FAILED):
        return FAILED
    return NotMigratable.exit_code if found.counts.get(VmState.REFUSED) else 0
