"""`bandwidth`: another speed for a migration that runs."""

from pathlib import Path

import click

from migrate.bandwidth import limit, parse
from migrate.cli.options import work_option
from migrate.cli.terminal import running
from migrate.errors import UsageError
from migrate.job import Jobs
from migrate.text import shown


@click.command(short_help="Change how fast a running migration sends.")
@click.argument("job")
@click.argument("rate")
@work_option
def bandwidth(job: str, rate: str, work: Path) -> None:
    """Change how fast a migration sends, while it runs and in its next runs. RATE in bytes a second, e.g. 20M; 0 lifts the limit.

    \b
    Example: magalu-migrate bandwidth erp01-1a2b3c4d 20M
    """
    with running("text"):
        found = next((one for one in Jobs(work).all() if one.name == job), None)
        if found is None:
            raise UsageError(
                f"there is no job {shown(job)} in {work}", hint="`magalu-migrate clean --all --dry-run` lists all jobs."
            )
        limit(found.bandwidth, parse(rate))
