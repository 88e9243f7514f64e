"""`batch schema`: what a batch file may hold, as JSON Schema."""

import click

from migrate.batch.file_model import json_schema
from migrate.cli.terminal import print_json


@click.command(short_help="Print the JSON Schema of batch files, for editors.")
def schema() -> None:
    """Print the JSON Schema of batch files: an editor that knows it completes keys, and shows what each means.

    Editors with a YAML language server (VS Code, Vim, Emacs …) take it from the file's first line:
    # yaml-language-server: $schema=batch.schema.json

    \b
    Example: magalu-migrate batch schema > batch.schema.json
    """
    print_json(json_schema())
