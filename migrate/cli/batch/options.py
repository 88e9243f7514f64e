"""What the commands on a running batch share: which database, and which batch in it."""

import click

from migrate.batch.store import Store
from migrate.batch.store_claims import unfinished
from migrate.errors import UsageError

database_option = click.option(
    "--database",
    metavar="URL",
    envvar="MAGALU_MIGRATE_DATABASE",
    help="postgresql://USER@HOST/NAME, for workers on several hosts; the password comes from PGPASSWORD or ~/.pgpass. "
    "Default: a file in the work folder.",
)
batch_option = click.option(
    "--batch", "name", metavar="NAME", help="Which batch. Default: the newest that is not finished."
)


def chosen(store: Store, name: str | None) -> str:
    """Return the batch that is meant. Raise UsageError where there is none."""
    if name is not None:
        return name
    names = store.names()
    if not names:
        raise UsageError("there is no batch here yet", hint="Start one: magalu-migrate batch run FILE")
    return next((one for one in names if unfinished(store, (one,))), names[0])
