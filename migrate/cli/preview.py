"""`preview`: every change that `vm` would make, on the screen, as JSON, as a page; and a rehearsal of it."""

import shlex
import shutil
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from migrate import hidden
from migrate import preview as previews
from migrate.cli.guest_options import GuestOptions, guest_options
from migrate.cli.opened import opened
from migrate.cli.terminal import FAILED, print_json, print_lines, running
from migrate.errors import NotMigratable, UsageError
from migrate.lines import WIDTH, Line
from migrate.look import look
from migrate.preview import Occasion, Preview, Screen
from migrate.rehearse import rehearse
from migrate.remediation import check_names
from migrate.text import one_line
from migrate.wiring.guests import REMEDIATIONS, Host, check_repairs, rooms

NARROWEST = 60


@click.command(short_help="Show every change that vm would make; change nothing.")
@click.argument("address")
@click.option(
    "--html",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it as a page, too: one file that needs no network, to read, print and sign.",
)
@click.option("--all", "everything", is_flag=True, help="Fold nothing: every path, every line of every diff.")
@click.option("--diff", multiple=True, metavar="NAME", help="Show what this remediation does, whole; may be repeated.")
@click.option(
    "--rehearse",
    "wants_rehearsal",
    is_flag=True,
    help="Really make the changes on a copy that is thrown away, and tell where they are not as shown.",
)
@guest_options
def preview(
    address: str,
    html: Path | None,
    everything: bool,
    diff: tuple[str, ...],
    wants_rehearsal: bool,
    options: GuestOptions,
) -> None:
    """Show every change that `vm` would make, as diffs with their reasons. Nothing is changed anywhere.

    Secrets of the guest (password hashes, private keys, tokens) are not shown. Exit code 1: a rehearsal came out otherwise.

    \b
    Example: magalu-migrate preview erp01.ova --html erp01.html
    """
    with running(options.output) as run:
        guest = options.guest
        settings = guest.settings
        names = [remediation.name for remediation in REMEDIATIONS]
        check_names("--diff", diff, names, "remediation", "`magalu-migrate remediations list` shows all.")
        _check_place(html)
        if wants_rehearsal:
            check_repairs(guest.room)
        where = rooms(Host(), guest.room, guest.offers, guest.root)
        ways = rehearse if wants_rehearsal else look
        with opened(run, address, guest.disk_format, options.work, guest.source) as (source, ref):
            found = ways(run, source, ref, where, REMEDIATIONS, settings)
        found = replace(
            found, occasion=Occasion(hidden.sentence(address), datetime.now(UTC), version("magalu-migrate"))
        )
        command = _command(address, options, found)
        if html is not None:
            html.write_text(previews.html(found, REMEDIATIONS, command=command), "utf-8")
    if options.output == "json":
        print_json(previews.to_json(found))
    else:
        screen = Screen(_width(), not (everything or diff), diff)
        print_lines(previews.lines(found, REMEDIATIONS, screen))
        if command:
            print_lines([Line(f"Apply exactly this: {one_line(command)}")])
        if html is not None:
            print_lines([Line(f"The page: {one_line(str(html))}")])
    if not found.can_go:
        sys.exit(NotMigratable.exit_code)
    if found.rehearsal is not None and not found.rehearsal.held:
        sys.exit(FAILED)


def _check_place(html: Path | None) -> None:
    """The page can be written, which is known before anything is looked at."""
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html {one_line(str(html))}: there is no folder {one_line(str(html.absolute().parent))}")


def _command(address: str, options: GuestOptions, found: Preview) -> str | None:
    if not found.can_go or not found.changes.effects:
        return None
    data = ["--data-disks", "upload"] if found.vm.disks[1:] else []
    return f"magalu-migrate {shlex.join(['vm', address, *options.guest.words, *data, '--approve', found.changes.plan])}"


def _width() -> int:
    """As wide as the terminal, within what reads well; as wide as that where there is none."""
    columns = shutil.get_terminal_size((WIDTH, 24)).columns if sys.stdout.isatty() else WIDTH
    return max(NARROWEST, min(columns, WIDTH))
