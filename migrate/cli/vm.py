"""`vm`: one VM's way into the cloud."""

from collections.abc import Iterator
from pathlib import Path

import click

from migrate import preview as previews
from migrate.bandwidth import parse as rate
from migrate.cli.guest_options import GuestOptions, guest_options
from migrate.cli.launch_options import launch_options
from migrate.cli.terminal import print_json, print_lines, running
from migrate.data_disks import DataDisks
from migrate.lines import Line
from migrate.outcome import Launched, Outcome
from migrate.qcow2 import Compression
from migrate.target import LaunchOptions
from migrate.text import shown, size, took
from migrate.wiring.guests import Host
from migrate.wiring.migration import job_of, migrate_vm
from migrate.wiring.request import VmRequest


@click.command(short_help="Make a VM's disk an active custom image.")
@click.argument("address")
@click.option("--name", help="The image's name: letters, digits, - and _. Default: the VM's and today's date.")
@click.option("--sandbox", is_flag=True, help="Into the sandbox on this machine, as a rehearsal.")
@click.option("--region", help="Default: MGC_REGION, then the mgc CLI's, then br-se1.")
@click.option("--bucket", help="Where the image passes through. Default: one of ours, made if missing.")
@click.option("--no-prove", is_flag=True, help="Do not boot the image before it is uploaded.")
@click.option(
    "--approve",
    metavar="PLAN|FILE",
    help="Go only if the plan is still the one that `preview` printed; with its JSON in a file, what has changed since is told.",
)
@click.option("--strict", is_flag=True, help="Stop before anything is copied where a warning is not waived.")
@click.option("--keep-object", is_flag=True, help="Leave the uploaded file in the bucket after the import.")
@click.option(
    "--data-disks",
    type=click.Choice([what.value for what in DataDisks]),
    default=DataDisks.REFUSE.value,
    show_default=True,
    help="What to do with a VM that has more than its boot disk: send the others beside the image, to be made volumes, or leave them behind.",
)
@click.option(
    "--size-limit",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    metavar="GB",
    help="The largest image file that Magalu takes, in 10^9 bytes.",
)
@click.option(
    "--bandwidth",
    metavar="RATE",
    help="Send no faster, in bytes a second, e.g. 20M. `magalu-migrate bandwidth` changes it meanwhile.",
)
@click.option(
    "--keep-image",
    type=click.Path(dir_okay=False, path_type=Path, resolve_path=True),
    help="Write the image to this file, too. Default: it only flows through.",
)
@click.option(
    "--compression",
    type=click.Choice([compression.value for compression in Compression]),
    default=Compression.ZLIB.value,
    show_default=True,
    help="zstd is smaller, and sets a feature bit: it is not known whether Magalu reads it.",
)
@launch_options
@guest_options
def vm(
    address: str,
    name: str | None,
    sandbox: bool,
    region: str | None,
    bucket: str | None,
    no_prove: bool,
    approve: str | None,
    strict: bool,
    keep_object: bool,
    data_disks: str,
    size_limit: float,
    bandwidth: str | None,
    keep_image: Path | None,
    compression: str,
    launch: LaunchOptions | None,
    options: GuestOptions,
) -> None:
    """Make a VM's disk an active custom image: repaired, proven by a boot, converted while it is uploaded, imported. With --launch, an
    instance of it runs afterwards.

    A second run of the same command goes on where the first one ended.

    \b
    Example: magalu-migrate vm erp01.ova --name erp01 --launch --ssh-key ops
    """
    with running(options.output) as run:
        approved = None if approve is None else previews.approval(approve)
        request = VmRequest(
            **dict(options.guest),
            address=address,
            name=name,
            sandbox=sandbox,
            region=region,
            bucket=bucket,
            prove=not no_prove,
            strict=strict,
            keep_object=keep_object,
            data_disks=DataDisks(data_disks),
            size_limit=int(size_limit * 10**9),
            bandwidth=None if bandwidth is None else rate(bandwidth),
            keep_image=keep_image,
            compression=Compression(compression),
            launch=launch,
        )
        job = job_of(run, request, options.work)
        outcome = migrate_vm(run, job, request, options.work, Host(), approved)
    if options.output == "json":
        print_json(outcome.to_json())
    else:
        print_lines(_summary(outcome, sandbox))


def _summary(outcome: Outcome, sandbox: bool) -> Iterator[Line]:
    image, sent, repaired = outcome.imported, outcome.sent, outcome.repaired
    if image is None or sent is None or repaired is None:
        return
    where = "the sandbox" if sandbox else "Magalu Cloud"
    seconds = took(sum(outcome.seconds.values()))
    yield Line(f"{image.name} is an active image of {where}: {image.id}. {seconds}.", "bold green")
    proof = f"proof: {outcome.proven.proof['summary']}" if outcome.proven else "not proven: it was not booted"
    yield Line(f"{size(sent.bytes)} for a disk of {size(sent.virtual_bytes)} · {proof}")
    if outcome.launched:
        yield from _instance(outcome.launched)
    elif repaired.login:
        yield Line(f"Its instances are reached by key as `{shown(repaired.login)}`.")
    findings = repaired.changes.get("findings")
    for finding in findings if isinstance(findings, list) else []:
        if isinstance(finding, dict) and finding["severity"] == "warning" and not finding["waived"]:
            yield Line(f"left to do: {shown(str(finding['text']))} ({finding['code']})", "yellow")
    yield from _data_disks(outcome)
    if sent.kept:
        yield Line(f"the image is kept: {shown(str(sent.kept))}", "dim")


LAST_LINES = 8


def _instance(made: Launched) -> Iterator[Line]:
    where = ", ".join(made.addresses) or "it has no address"
    does = "runs" if made.status == "running, completed" else f"is {made.status}"
    yield Line(f"{made.name} {does} as {made.machine_type}: {where}. Instance {made.id}.", "bold green")
    yield Line(f"log in: {made.ssh}" if made.ssh else "log in: the API shows no address yet")
    for line in made.console[-LAST_LINES:]:
        yield Line(f"  {shown(line)}", "dim")


def _data_disks(outcome: Outcome) -> Iterator[Line]:
    """What is left to do with each disk that is not in the image."""
    for one in outcome.data_disks:
        head = f"disk {one.number}, {shown(one.disk.name)} ({size(one.disk.size)}), is not in the image"
        if one.sent is None:
            yield Line(f"left behind: {head}; it is where it was, and nothing of it was sent", "yellow")
            continue
        yield Line(
            f"left to do: {head}: {size(one.sent.bytes)} as {shown(one.sent.key)} in bucket {one.sent.bucket}", "yellow"
        )
        for number, step in enumerate(one.steps, 1):
            yield Line(f"  {number}. {step.where}: {step.what}")
            yield from (Line(f"       {command}") for command in step.commands)
