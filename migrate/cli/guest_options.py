"""The options of the commands that open a guest."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from migrate.cli.options import output_option, source_options, work_option
from migrate.remediation import Profile
from migrate.wiring.request import GuestRequest


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """What `inspect`, `preview` and `vm` share: how the disk is read and the guest repaired, where, and how it is told."""

    guest: GuestRequest
    work: Path
    output: str


GUEST_OPTIONS = (
    click.option("--format", "disk_format", help="What the disk is, e.g. raw for one without a partition table."),
    click.option(
        "--root",
        metavar="DEVICE",
        help="The root file system, where the disk holds several systems: /dev/sda2, UUID=… or LABEL=….",
    ),
    click.option(
        "--room",
        type=click.Choice(["auto", "appliance", "overlay", "dissect"]),
        default="auto",
        show_default=True,
        help="Where the guest's own programs run: in libguestfs's appliance, or, quicker without KVM, in a sandbox on this host; "
        "dissect, for inspect and preview, reads its files only, and needs magalu-migrate[preview] (AGPL-3.0).",
    ),
    click.option(
        "--profile",
        type=click.Choice([profile.value for profile in Profile]),
        default=Profile.LIFT_AND_SHIFT.value,
        show_default=True,
        help="What the image is for: one machine that moves, or a template that many are made of.",
    ),
    click.option("--skip", multiple=True, metavar="NAME", help="Leave a remediation out; may be repeated."),
    click.option(
        "--ask", multiple=True, metavar="NAME", help="Make a remediation that the profile leaves out; may be repeated."
    ),
    click.option("--only", multiple=True, metavar="NAME", help="Make this remediation and no other; may be repeated."),
    click.option(
        "--waive",
        multiple=True,
        metavar="CODE",
        help="Accept what a finding tells, e.g. NET-007; may be repeated.",
    ),
    click.option(
        "--repo",
        multiple=True,
        metavar="REPO",
        help="Where to get packages that the guest lacks, if its own repositories do not serve: "
        "'deb [signed-by=FILE] URL SUITE COMPONENTS', the address of an RPM repository, or a folder; may be repeated.",
    ),
    click.option(
        "--bundle",
        multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
        metavar="FOLDER",
        help="Take packages from a bundle (`bundle make`); where it suffices no network is touched. May be repeated.",
    ),
    click.option("--offline", is_flag=True, help="Do not ask the guest's own repositories."),
    click.option(
        "--keep-machine-id",
        is_flag=True,
        help="Keep the guest's identity. Only where the source VM stays off: two machines of one id get one address.",
    ),
    click.option(
        "--force-datasource",
        metavar="NAME",
        help="Let cloud-init use this datasource only. Default: it finds one by itself.",
    ),
    work_option,
    output_option,
)


def guest_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of GuestOptions; it receives them as `options`."""

    @functools.wraps(command)
    def with_options(**words: Any) -> None:
        shared = {name: words.pop(name) for name in GuestRequest.model_fields}
        options = GuestOptions(GuestRequest(**shared), words.pop("work"), words.pop("output"))
        command(options=options, **words)

    whole = source_options(with_options)
    for option in reversed(GUEST_OPTIONS):
        whole = option(whole)
    return whole
