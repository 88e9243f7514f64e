"""`batch schema`: what a batch file may hold, as JSON Schema."""

import click


@click.command(short_help="Print the JSON Schema of batch files, for editors.")
def schema() -> None:
    """Print the JSON Schema of batch files, for editors.

    \b
    Example: magalu-migrate batch schema > batch.schema.json
    """
