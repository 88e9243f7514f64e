"""`inspect`: what a VM is."""

import click

from migrate import preview as previews
from migrate.cli.guest_options import GuestOptions, guest_options
from migrate.cli.opened import opened
from migrate.cli.terminal import print_json, print_lines, running
from migrate.look import look
from migrate.wiring.guests import Host, rooms


@click.command(short_help="Show what a VM is: system, disks, firmware, cards.")
@click.argument("address")
@guest_options
def inspect(address: str, options: GuestOptions) -> None:
    """Show what a VM is: its system, firmware, disks, file systems, cards and kernels.

    \b
    Example: magalu-migrate inspect erp01.vmdk
    """
    with running(options.output) as run:
        guest = options.guest
        where, settings = rooms(Host(), guest.room, root=guest.root), guest.settings
        with opened(run, address, guest.disk_format, options.work, guest.source) as (source, ref):
            found = look(run, source, ref, where, (), settings)
    if options.output == "json":
        print_json(previews.inventory_json(found))
    else:
        print_lines(previews.inventory(found))
