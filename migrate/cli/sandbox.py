"""`sandbox`: a Magalu Cloud on this machine."""

from pathlib import Path

import click

from migrate.cli.terminal import print_lines, running
from migrate.lines import Line
from migrate.wiring.targets import serve_sandbox


@click.command(short_help="Run a Magalu Cloud on this machine.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keep the sandbox's state here.")
def sandbox(folder: Path | None) -> None:
    """Run a Magalu Cloud on this machine, until Ctrl-C: object storage, custom images and instances, on loopback only.

    \b
    Example: magalu-migrate sandbox --folder ./sandbox
    """
    with running("text") as run:
        serve_sandbox(run, folder or run.work / "sandbox", lambda text: print_lines([Line(text)]))
