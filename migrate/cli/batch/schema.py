"""`batch schema`: what a batch file may hold, as JSON Schema."""

import click

from migrate.batch.file_model import json_schema
from migrate.cli.terminal import print_json


@click.command(short_help="Print the JSON Schema of batch files, for editors.")
def schema() -> None:
    """Print the JSON Schema of batch files: an editor that knows it completes keys, and shows what each means.

    Editors with a YAML language server (VS Code, Vim, Emacs …) take it from the first line of such a file:

    \b
      # yaml-language-server: $schema=batch.schema.json
      name: wave-2
      limits: {overall: 4, per-source: 2}
      defaults:
        waive: [NET-012]
        window: {opens: "22:00", closes: "06:00", days: mon-fri, zone: America/Sao_Paulo}
      vms:
        - source: exports/erp01.ova
          name: erp-{date}
          priority: 10
        - source: vmware://vc1/DC0/web/*
          except: ["*-old"]
          launch: {ssh-key: ops}

    \b
    Example: magalu-migrate batch schema > batch.schema.json
    """
    print_json(json_schema())
