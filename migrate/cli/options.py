"""The options that several commands share."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from platformdirs import user_state_path
from pydantic import JsonValue

from migrate import wiring
from migrate.codes import check_waivers
from migrate.errors import UsageError
from migrate.remediation import Profile, Settings, check_names
from migrate.source import VmRef
from migrate.wiring import SourceOptions

NOT_LIVE = SourceOptions()


@dataclass(frozen=True, slots=True)
class GuestOptions:
    """What `inspect`, `preview` and `vm` share: how the disk is read, and how the guest is repaired."""

    disk_format: str | None
    room: str
    skip: tuple[str, ...]
    keep_machine_id: bool
    force_datasource: str | None
    work: Path
    output: str
    profile: str = Profile.LIFT_AND_SHIFT.value
    ask: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    waive: tuple[str, ...] = ()
    repo: tuple[str, ...] = ()
    bundle: tuple[Path, ...] = ()
    offline: bool = False
    root: str | None = None
    source: SourceOptions = NOT_LIVE

    @property
    def words(self) -> list[str]:
        """The options that decide what the plan is, as they were written."""
        said = [f"--format={self.disk_format}"] if self.disk_format else []
        said += [f"--profile={self.profile}"] if self.profile != Profile.LIFT_AND_SHIFT.value else []
        said += [f"--skip={name}" for name in self.skip]
        said += [f"--ask={name}" for name in self.ask]
        said += [f"--only={name}" for name in self.only]
        said += [f"--waive={code}" for code in self.waive]
        said += [f"--repo={_PASSWORD.sub('//…@', text)}" for text in self.repo]
        said += [f"--bundle={folder}" for folder in self.bundle]
        said += ["--offline"] if self.offline else []
        said += [f"--root={self.root}"] if self.root else []
        said += source_words(self.source)
        said += ["--keep-machine-id"] if self.keep_machine_id else []
        return said + ([f"--force-datasource={self.force_datasource}"] if self.force_datasource else [])

    def request(self, ref: VmRef, image: str | None, cloud: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Everything that makes two calls of `vm` the same job; `image` is the name that was asked for, None for the default.

        What is waived changes nothing in the image; it is kept with the findings.
        """
        return {
            "address": ref.address,
            "format": self.disk_format,
            "root": self.root,
            "image": image,
            **({"source": self.source.request()} if wiring.is_live(ref.address) else {}),
            **cloud,
            "profile": self.profile,
            "skip": [*sorted(set(self.skip))],
            "ask": [*sorted(set(self.ask))],
            "only": [*sorted(set(self.only))],
            "repo": [_PASSWORD.sub("//", text) for text in self.repo],
            "bundle": [str(folder) for folder in self.bundle],
            "offline": self.offline,
            "keep_machine_id": self.keep_machine_id,
            "force_datasource": self.force_datasource,
        }

    @property
    def offers(self) -> wiring.Offers:
        """What is brought for guests that lack packages. Raise UsageError, or BundleBroken for a bundle that is none."""
        return wiring.offers(self.repo, self.bundle, offline=self.offline)

    @property
    def settings(self) -> Settings:
        known = {remediation.name for remediation in wiring.REMEDIATIONS}
        listed = "`magalu-migrate remediations list` shows all."
        check_names("--skip", self.skip, known, "remediation", listed)
        check_names("--ask", self.ask, known, "remediation", listed)
        check_names("--only", self.only, known, "remediation", listed)
        check_waivers(self.waive)
        wanted = {*self.ask, *self.only}
        if both := sorted(set(self.skip) & wanted):
            raise UsageError(f"{both[0]} is both asked for and skipped", hint="Ask for it or skip it, not both.")
        return Settings(
            self.force_datasource,
            not self.keep_machine_id,
            skip=frozenset(known - wanted if self.only else self.skip),
            profile=Profile(self.profile),
            ask=frozenset(wanted),
            waive=frozenset(self.waive),
        )


_PASSWORD = re.compile(r"//[^/@\s]*@")
"""The name and password in an address: neither shown nor kept."""

work_option = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path, resolve_path=True),
    default=user_state_path("magalu-migrate"),
    envvar="MAGALU_MIGRATE_WORK",
    show_default=True,
    help="Folder for images, overlays and what a second run goes on from.",
)
output_option = click.option(
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How results are written: json is one object on standard output, with events as lines on standard error.",
)
GUEST_OPTIONS = (
    click.option("--format", "disk_format", help="What the disk is, e.g. raw for one without a partition table."),
    click.option(
        "--root",
        metavar="DEVICE",
        help="The root file system, where the disk holds several systems: /dev/sda2, UUID=… or LABEL=….",
    ),
    click.option(
        "--room",
        type=click.Choice(["auto", "appliance", "overlay"]),
        default="auto",
        show_default=True,
        help="Where the guest's own programs run: in libguestfs's appliance, or, quicker without KVM, in a sandbox on this host.",
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


SOURCE_OPTIONS = (
    click.option(
        "--ca",
        type=click.Path(exists=True, dir_okay=False, path_type=Path, resolve_path=True),
        metavar="FILE",
        help="Of a live source: trust this root certificate (PEM), too.",
    ),
    click.option(
        "--thumbprint",
        metavar="SHA",
        help="Of vSphere: trust the certificate with this SHA-256 (or SHA-1), and no other.",
    ),
    click.option(
        "--transport",
        type=click.Choice(["auto", "datastore", "nfc", "vddk", "direct"]),
        default="auto",
        show_default=True,
        help="How disks are read: of vSphere datastore, nfc or vddk, of AWS direct.",
    ),
    click.option(
        "--vddk-libdir",
        type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
        metavar="FOLDER",
        help="Of vSphere: VMware's VDDK, for the transport vddk.",
    ),
)


def source_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of live sources; it receives them as `source`."""

    @functools.wraps(command)
    def with_options(**words: Any) -> None:
        shared = {name: words.pop(name) for name in SourceOptions.__slots__}
        command(source=SourceOptions(**shared), **words)

    for option in reversed(SOURCE_OPTIONS):
        with_options = option(with_options)
    return with_options


def source_words(source: SourceOptions) -> list[str]:
    """The options of a live source, as they were written."""
    said = [f"--ca={source.ca}"] if source.ca else []
    said += [f"--thumbprint={source.thumbprint}"] if source.thumbprint else []
    said += [f"--transport={source.transport}"] if source.transport != "auto" else []
    return said + ([f"--vddk-libdir={source.vddk_libdir}"] if source.vddk_libdir else [])


def guest_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of GuestOptions; it receives them as `options`."""

    @functools.wraps(command)
    def with_options(**words: Any) -> None:
        shared = {name: words.pop(name) for name in GuestOptions.__slots__}
        command(options=GuestOptions(**shared), **words)

    whole = source_options(with_options)
    for option in reversed(GUEST_OPTIONS):
        whole = option(whole)
    return whole
