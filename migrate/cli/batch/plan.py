"""`batch plan`: the previews of all VMs of a batch, in one folder."""

from pathlib import Path

import click


@click.command(short_help="Write the previews of all VMs into one folder.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--into", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER")
def plan(file: Path, into: Path) -> None:
    """Write the previews of all VMs into one folder.

    \b
    Example: magalu-migrate batch plan wave-2.yaml --into previews
    """
