"""The options that several commands share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from platformdirs import user_state_path

from migrate.wiring.sources import SourceOptions

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
        type=click.Choice(["auto", "datastore", "nfc", "vddk", "direct", "export"]),
        default="auto",
        show_default=True,
        help="How disks are read: of vSphere datastore, nfc or vddk, of AWS direct or export.",
    ),
    click.option(
        "--vddk-libdir",
        type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
        metavar="FOLDER",
        help="Of vSphere: VMware's VDDK, for the transport vddk.",
    ),
    click.option(
        "--export-bucket",
        metavar="NAME",
        help="Of AWS: a bucket of the same region, for the transport export; what is written there is deleted again.",
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
