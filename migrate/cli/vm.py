"""`vm`: one VM's way into the cloud."""

from collections.abc import Iterator
from pathlib import Path

import click

from migrate import preview as previews
from migrate.bandwidth import parse as rate
from migrate.cli.guest_options import GuestOptions, guest_options
from migrate.cli.terminal import print_json, print_lines, running
from migrate.lines import Line
from migrate.outcome import Outcome
from migrate.qcow2 import Compression
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
    type=click.Choice(["refuse", "skip"]),
    default="refuse",
    show_default=True,
    help="What to do with a VM that has more than its boot disk.",
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
    options: GuestOptions,
) -> None:
    """Make a VM's disk an active custom image: repaired, proven by a boot, converted while it is uploaded, imported.

    A second run of the same command goes on where the first one ended.

    \b
    Example: magalu-migrate vm erp01.ova --name erp01
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
            data_disks=data_disks,
            size_limit=int(size_limit * 10**9),
            bandwidth=None if bandwidth is None else rate(bandwidth),
            keep_image=keep_image,
            compression=Compression(compression),
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
    if repaired.login:
        yield Line(f"Its instances are reached by key as `{shown(repaired.login)}`.")
    findings = repaired.changes.get("findings")
    for finding in findings if isinstance(findings, list) else []:
        if isinstance(finding, dict) and finding["severity"] == "warning" and not finding["waived"]:
            yield Line(f"left to do: {shown(str(finding['text']))} ({finding['code']})", "yellow")
    if sent.kept:
        yield Line(f"the image is kept: {shown(str(sent.kept))}", "dim")
