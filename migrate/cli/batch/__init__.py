"""`batch`: many VMs from one file, days long. Each subcommand is a file of this folder."""

import click

from migrate.cli.commands import Commands

COMMANDS = {
    "add": "batch.add:add",
    "cancel": "batch.control:cancel",
    "check": "batch.check:check",
    "logs": "batch.logs:logs",
    "pause": "batch.control:pause",
    "plan": "batch.plan:plan",
    "report": "batch.report:report",
    "resume": "batch.control:resume",
    "retry": "batch.control:retry",
    "run": "batch.run:run",
    "schema": "batch.schema:schema",
    "status": "batch.status:status",
}
"""Where each subcommand is, as in migrate.cli."""


@click.group(cls=Commands, where=COMMANDS, short_help="Move many VMs that a file describes.")
def batch() -> None:
    """Move many VMs that one file describes.

    \b
    Look first:     magalu-migrate batch check wave-2.yaml
    Preview all:    magalu-migrate batch plan wave-2.yaml --into previews
    Do it:          magalu-migrate batch run wave-2.yaml
    Watch it:       magalu-migrate batch status --watch
    """
