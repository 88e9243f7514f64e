"""`batch`: many VMs from one file, days long. Each subcommand is a file of this folder."""

import click

from migrate.cli.commands import Commands

COMMANDS = {
    "check": "batch.check:check",
    "plan": "batch.plan:plan",
    "schema": "batch.schema:schema",
}
"""Where each subcommand is, as in migrate.cli."""


@click.group(cls=Commands, where=COMMANDS, short_help="Move many VMs that a file describes.")
def batch() -> None:
    """Move many VMs that one file describes.

    \b
    Look first:     magalu-migrate batch check wave-2.yaml
    Preview all:    magalu-migrate batch plan wave-2.yaml --into previews
    """
