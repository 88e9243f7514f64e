"""The command line: words in, screens out. Nothing here knows how anything is done."""

import click

from migrate.cli.commands import Commands

COMMANDS = {
    "bandwidth": "bandwidth:bandwidth",
    "batch": "batch:batch",
    "bundle": "bundle:bundle",
    "clean": "clean:clean",
    "completion": "completion:completion",
    "convert": "convert:convert",
    "dashboard": "dashboard:dashboard",
    "doctor": "doctor:doctor",
    "inspect": "inspect:inspect",
    "list": "listing:list_vms",
    "preview": "preview:preview",
    "prove": "prove:prove",
    "remediations": "remediations:remediations",
    "sandbox": "sandbox:sandbox",
    "verify": "verify:verify",
    "vm": "vm:vm",
    "worker": "worker:worker",
}
"""Where each command is: a module of this package, loaded when it is asked for, and what it is called there."""


@click.group(
    cls=Commands,
    where=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="magalu-migrate")
def main() -> None:
    """Take Linux VMs from a disk file to Magalu Cloud, repaired and proven.

    \b
    Look first:     magalu-migrate preview erp01.ova
    Rehearse:       magalu-migrate vm erp01.ova --sandbox
    Do it:          magalu-migrate vm erp01.ova
    """
