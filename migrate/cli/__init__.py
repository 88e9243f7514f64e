"""The command line: words in, screens out. Nothing here knows how anything is done."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from migrate import preview as previews
from migrate import show, wiring
from migrate.bandwidth import Throttle, limit
from migrate.bandwidth import parse as rate
from migrate.cli.bandwidth import bandwidth as bandwidth_command
from migrate.cli.bundle import bundle
from migrate.cli.commands import Commands
from migrate.cli.convert import convert
from migrate.cli.listing import list_vms
from migrate.cli.opened import blank_jobs_go, opened
from migrate.cli.options import GuestOptions, guest_options, output_option, work_option
from migrate.cli.preview import preview
from migrate.cli.terminal import FAILED, print_json, print_lines, running
from migrate.cli.verify import verify
from migrate.codes import register
from migrate.doctor import checks
from migrate.errors import MigrateError, Stopped, UsageError
from migrate.job import Job, Jobs
from migrate.outcome import Outcome
from migrate.pipeline import Order, look
from migrate.pipeline import migrate as migrate_vm
from migrate.preview import Line
from migrate.proof.lines import lines as proof_lines
from migrate.qcow2 import Compression
from migrate.remediation import Profile, check_names
from migrate.run import Run
from migrate.source import Firmware
from migrate.text import shown, size, took


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="magalu-migrate")
def main() -> None:
    """Take Linux VMs from a disk file to Magalu Cloud, repaired and proven.

    \b
    Look first:     magalu-migrate preview erp01.ova
    Rehearse:       magalu-migrate vm erp01.ova --sandbox
    Do it:          magalu-migrate vm erp01.ova
    """


main.add_command(bundle)
main.add_command(list_vms)
main.add_command(preview)


@main.command(short_help="Show what a VM is: system, disks, firmware, cards.")
@click.argument("address")
@guest_options
def inspect(address: str, options: GuestOptions) -> None:
    """Show what a VM is: its system, firmware, disks, file systems, cards and kernels.

    \b
    Example: magalu-migrate inspect erp01.vmdk
    """
    with running(options.output) as run:
        rooms, settings = wiring.rooms(wiring.Host(), options.room, root=options.root), options.settings
        with opened(run, address, options.disk_format, options.work, options.source) as (source, ref):
            found = look(run, source, ref, rooms, (), settings)
    if options.output == "json":
        print_json(previews.inventory_json(found))
    else:
        print_lines(previews.inventory(found))


@main.command(short_help="Make a VM's disk an active custom image.")
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
    with running(options.output) as outer:
        settings, offers = options.settings, options.offers
        approved = None if approve is None else previews.approval(approve)
        # Asked quietly before a job is made of it, and again by the job: what is refused at a glance leaves nothing behind.
        quiet = Run(outer.work, stop=outer.stop)
        with wiring.source(quiet, address, options.disk_format, options=options.source) as (first, ref):
            first.describe(ref)
        place = wiring.Place(sandbox, region, bucket, int(size_limit * 10**9), options.work)
        job = Jobs(options.work).find(ref.name, options.request(ref, name, wiring.cloud(outer, place)))
        with job.locked(), blank_jobs_go(job), job.scratch() as scratch:
            image = job.named(wiring.image_name(ref.name) if name is None else name)
            host = wiring.Host()
            run = Run(scratch, outer.listener, outer.stop)
            if bandwidth is not None:
                limit(job.bandwidth, rate(bandwidth))
            sending = Throttle(job.bandwidth, run.stop.wait).take
            with (
                wiring.source(run, address, options.disk_format, job.ledger, options.source) as (source, ref),
                wiring.target(run, place, job.ledger, sending) as target,
            ):
                order = Order(
                    ref=ref,
                    name=image,
                    settings=settings,
                    target=target,
                    prover=None if no_prove else wiring.prover(host),
                    remediations=wiring.REMEDIATIONS,
                    no_growth=wiring.NO_GROWTH,
                    keep_object=keep_object,
                    skip_data_disks=data_disks == "skip",
                    compression=Compression(compression),
                    keep_image=keep_image,
                    approved=approved,
                    strict=strict,
                )
                try:
                    outcome = migrate_vm(
                        run, job, source, wiring.rooms(host, options.room, offers, options.root), order
                    )
                except Stopped as stopped:
                    if not job.is_blank:
                        stopped.hint = (
                            "What is done is kept: the same command goes on, and `magalu-migrate clean` takes it back."
                        )
                    raise
    if options.output == "json":
        print_json(outcome.to_json())
    else:
        print_lines(_summary(outcome, sandbox))


main.add_command(bandwidth_command)
main.add_command(convert)
main.add_command(verify)


@main.command(short_help="Boot an image as Magalu would; does it come up?")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--uefi", is_flag=True, help="Boot with UEFI firmware, as an image imported with uefi=true.")
@click.option("--user", help="Whom the key must admit. Default: the usual default users, one after the other.")
@output_option
def prove(image: Path, uefi: bool, user: str | None, output: str) -> None:
    """Boot a qcow2 in a closed sandbox as Magalu would, and show whether it comes up. The image is not changed.

    \b
    Example: magalu-migrate prove erp01.qcow2
    """
    with running(output) as run, run.stage("prove") as stage:
        firmware = Firmware.UEFI if uefi else Firmware.BIOS
        proof = wiring.prove_image(run, image, firmware, user)
        stage.summary = str(proof["summary"])
    if output == "json":
        print_json(proof)
    else:
        print_lines(proof_lines(proof))
    if not proof["held"]:
        sys.exit(FAILED)


@main.command(short_help="Run a Magalu Cloud on this machine.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keep the sandbox's state here.")
def sandbox(folder: Path | None) -> None:
    """Run a Magalu Cloud on this machine, until Ctrl-C: object storage and custom images, on loopback only.

    \b
    Example: magalu-migrate sandbox --folder ./sandbox
    """
    with running("text") as run:
        wiring.serve_sandbox(run, folder or run.work / "sandbox", lambda text: print_lines([Line(text)]))


@main.command(short_help="Take back what unfinished migrations left.")
@click.argument("name", required=False)
@click.option(
    "--all", "every", is_flag=True, help="Also jobs that are done: their images are deleted from this machine."
)
@click.option("--dry-run", is_flag=True, help="Only list.")
@work_option
def clean(name: str | None, every: bool, dry_run: bool, work: Path) -> None:
    """Take back what unfinished migrations left, here and in the cloud. Only what they made themselves is touched.

    \b
    Example: magalu-migrate clean --dry-run
    """
    with running("text") as run:
        jobs = [job for job in Jobs(work).all() if name in (None, job.name)]
        if name is not None and not jobs:
            raise UsageError(f"there is no job {name} in {work}", hint="`magalu-migrate clean --dry-run` lists all.")
        wanted = [job for job in jobs if every or name is not None or not job.is_done]
        kept = 0
        for job in wanted:
            run.check()
            print_lines(_job_lines(job))
            if dry_run:
                continue
            try:
                _clean(run, job, work)
            except Stopped:
                raise
            except MigrateError as error:  # the next one may well go
                kept += 1
                print_lines(Line(f"  kept: {text}") for text, _ in show.failure(error))
        if not wanted:
            print_lines([Line("nothing to clean: no unfinished migration has left anything")])
    if kept:
        sys.exit(FAILED)


@main.command(short_help="Say what this machine has and lacks, and what mends it.")
@work_option
@output_option
def doctor(work: Path, output: str) -> None:
    """Say what this machine has and can do, and how to mend what is missing.

    \b
    Example: magalu-migrate doctor
    """
    with running(output) as run:
        found = []
        for check in checks(run, work, wiring.checks(run)):
            found.append(check)
            if output == "text":
                style = {"ok": "green", "slow": "yellow", "miss": "red"}[check.verdict]
                print_lines([Line(f"{check.verdict:<5} {check.text}", style)])
                if check.remedy:
                    print_lines([Line(f"      {check.remedy}")])
    lacks = [check for check in found if check.verdict == "miss"]
    missing = len(lacks)
    if output == "json":
        print_json({"checks": [asdict(check) for check in found], "missing": missing})
    elif missing:
        without = lacks[0].without if missing == 1 else None
        works = f" What works without it: {without}." if without else ""
        print_lines([Line(f"{missing} thing{'s are' if missing > 1 else ' is'} missing.{works}")])
    if missing:
        sys.exit(FAILED)


@main.group()
def remediations() -> None:
    """The repairs: list them, or explain one."""


@remediations.command("list")
@output_option
def list_remediations(output: str) -> None:
    """Every repair, in the order in which they are made.

    \b
    Example: magalu-migrate remediations list
    """
    if output == "json":
        print_json(
            [
                {"name": r.name, "title": r.title, "profiles": [p.value for p in Profile if p in r.profiles]}
                for r in wiring.REMEDIATIONS
            ]
        )
        return
    print_lines(previews.listed(wiring.REMEDIATIONS))


@remediations.command("codes")
@output_option
def list_codes(output: str) -> None:
    """Every code that a finding or a refusal can have.

    \b
    Example: magalu-migrate remediations codes
    """
    if output == "json":
        print_json([{"code": name, **code.model_dump(mode="json")} for name, code in register().items()])
        return
    print_lines(Line(f"{name:<10} {code.severity.value:<8} {code.title}") for name, code in register().items())


@remediations.command("explain")
@click.argument("name")
def explain_remediation(name: str) -> None:
    """What a repair does, why, on which guests, and where we know it from; or what a finding's code means.

    \b
    Example: magalu-migrate remediations explain strip-macs
             magalu-migrate remediations explain NET-012
    """
    codes = register()
    if (code := codes.get(name.upper())) is not None:
        print_lines(previews.meaning(name.upper(), code))
        return
    by_name = {remediation.name: remediation for remediation in wiring.REMEDIATIONS}
    with running("text"):
        hint = "`magalu-migrate remediations list` and `remediations codes` show all."
        check_names("explain", [name], [*by_name, *codes], "remediation or finding", hint)
    print_lines(previews.explained(by_name[name], codes))


# Screens


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


def _job_lines(job: Job) -> Iterator[Line]:
    try:
        yield Line(
            f"{job.name}: {shown(str(job.request.get('address')))} as image {shown(job.image_name or '?')}", "bold"
        )
    except MigrateError:
        yield Line(f"{job.name}: its job.json cannot be read", "bold")
    for made in job.ledger.left():
        yield Line(f"  {made.kind} {shown('/'.join(made.names.values()))}")
    local = sum(path.stat().st_size for path in job.folder.iterdir() if path.is_file())
    yield Line(f"  {size(local)} in {job.folder}")


# Running


def _clean(run: Run, job: Job, work: Path) -> None:
    """What the job made is gone, and the job with it. Raise MigrateError where something could not be taken back: the job still knows of it then."""
    with job.locked():
        job.sweep()
        left = job.ledger.left()
        there = [made for made in left if wiring.is_of_source(made)]
        here = [made for made in left if not wiring.is_of_source(made)]
        kept: list[str] = []
        if there:
            kept += wiring.take_back_source(run, job.request, there, job.ledger)
        if here:
            with wiring.target(run, wiring.place_of(job.request, work), job.ledger) as target:
                print_lines(Line(f"  {shown(text)}", "yellow") for text in wiring.take_back(target, here))
        if kept:
            raise MigrateError("; ".join(map(shown, kept)), hint="Take it back by hand, or run clean again.")
        job.delete()
        print_lines([Line("  gone", "green")])
