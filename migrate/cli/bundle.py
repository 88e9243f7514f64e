"""The commands for bundles: folders of packages for guests that no network can serve."""

import json
import sys
from pathlib import Path

import click

from migrate.cli.options import output_option
from migrate.cli.terminal import FAILED, print_json, print_lines, running
from migrate.lines import Line
from migrate.text import counted, shown, size
from migrate.wiring.guests import make_bundle, read_bundle


@click.group(short_help="Packages for guests without a network: make, check.")
def bundle() -> None:
    """Packages for guests that no network can serve: make a bundle, or check one."""


@bundle.command(short_help="Make a bundle for a release of a distribution.")
@click.option("--for", "release", required=True, metavar="RELEASE", help="ID:VERSION, e.g. debian:12 or ubuntu:22.04.")
@click.option(
    "--repo",
    multiple=True,
    metavar="REPO",
    help="Where its packages are: 'deb [signed-by=FILE] URL SUITE COMPONENTS'; may be repeated. "
    "Default: this machine's own repositories, if it is of that release.",
)
@click.argument("folder", type=click.Path(path_type=Path))
@output_option
def make(release: str, repo: tuple[str, ...], folder: Path, output: str) -> None:
    """Make a bundle: a folder with everything that `vm` may have to install in a guest of that release, and a manifest with checksums.

    It is used with --bundle FOLDER; where it suffices, no network is touched.

    \b
    Example: magalu-migrate bundle make --for debian:12 ./debian12
    """
    with running(output) as run, run.stage("bundle") as stage:
        made = make_bundle(run, folder, release, repo)
        stage.summary = f"{counted(len(made.manifest.packages), 'package')}, {size(made.manifest.bytes)}"
    if output == "json":
        print_json(json.loads(made.manifest.model_dump_json()) | {"folder": str(made.folder), "sha256": made.digest})
        return
    print_lines(
        [
            Line(
                f"{folder} serves guests of {made.manifest.release} without a network: --bundle {folder}", "bold green"
            ),
            Line(f"It holds {', '.join(made.manifest.asked)} and all that they need."),
            Line(f"SHA-256 of its manifest: {made.digest}"),
        ]
    )


@bundle.command(short_help="Say whether a bundle is what its manifest says.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@output_option
def check(folder: Path, output: str) -> None:
    """Read every file of a bundle, and say whether each is what the manifest says.

    The manifest speaks for the files, and nobody for the manifest: compare its SHA-256 with what `bundle make` printed.

    \b
    Example: magalu-migrate bundle check ./debian12
    """
    with running(output):
        found = read_bundle(folder)
        broken = list(found.broken())
    manifest = found.manifest
    if output == "json":
        print_json({"folder": str(found.folder), "sha256": found.digest, "sound": not broken, "broken": broken})
    else:
        head = f"{folder}: {manifest.release}, {counted(len(manifest.packages), 'package')}, {size(manifest.bytes)}, made {manifest.made:%Y-%m-%d}"
        print_lines(
            [
                Line(head, "bold"),
                *(
                    Line(f"  from {shown(each.repository)}, signed by {', '.join(each.signed_by) or 'nobody'}")
                    for each in manifest.repositories
                ),
                *(Line(f"  {shown(each)}", "red") for each in broken),
                Line(f"SHA-256 of its manifest: {found.digest}"),
                Line("It is not what its manifest says.", "bold red") if broken else Line("It is sound.", "bold green"),
            ]
        )
    if broken:
        sys.exit(FAILED)
