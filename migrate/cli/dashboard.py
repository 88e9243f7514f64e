"""`dashboard`: a page for those who watch a batch."""

from pathlib import Path

import click

from migrate.batch.dashboard import serve
from migrate.batch.store import open_store
from migrate.cli.batch.options import database_option
from migrate.cli.options import work_option
from migrate.cli.terminal import print_lines, running
from migrate.lines import Line


@click.command(short_help="Show batches as a page that updates by itself.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Of 127.0.0.1. Default: a free one.")
@database_option
@click.option(
    "--allow-control", is_flag=True, help="Let whoever has the page's address pause, resume, retry and cancel."
)
@work_option
def dashboard(port: int, database: str | None, allow_control: bool, work: Path) -> None:
    """Show batches as a page on this machine, until Ctrl-C. Whoever has its address can read it; nobody else can.

    From another machine: ssh -L 8080:127.0.0.1:8080 HOST, with --port 8080 here.

    \b
    Example: magalu-migrate dashboard --port 8080
    """
    with (
        running("text") as run,
        open_store(database, work) as store,
        serve(store, port=port, allow_control=allow_control) as url,
    ):
        print_lines([Line(url), Line("Ctrl-C ends it.", "dim")])
        run.stop.wait()
        run.check()
