"""`batch check`: everything that is wrong with a batch, before anything is started."""

from pathlib import Path

import click


@click.command(short_help="Show what is wrong with a batch file, and what each VM will take.")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check(file: Path) -> None:
    """Show what is wrong with a batch file, and what each VM will take. Nothing is started, nothing is made anywhere.

    \b
    Example: magalu-migrate batch check wave-2.yaml
    """
