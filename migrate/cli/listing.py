"""`list`: what VMs there are in a cloud or below a hypervisor's management, with what is known without opening any."""

from dataclasses import asdict

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from migrate.cli.options import output_option, source_options
from migrate.cli.terminal import print_json, print_lines, running
from migrate.ledger import NoLedger
from migrate.lines import Line
from migrate.source import Vm
from migrate.text import counted, one_line, size
from migrate.wiring.sources import SourceOptions, is_live, live_source

WIDEST = 10_000
COLUMNS = ("name", "state", "system", "vCPU", "memory", "firmware", "disks", "address")


@click.command("list", short_help="Show which VMs there are in a cloud.")
@click.argument("address")
@source_options
@output_option
def list_vms(address: str, source: SourceOptions, output: str) -> None:
    """Show which VMs an address of a live source names; * in it stands for any text. Nothing is made and no disk is read.

    \b
    Example: magalu-migrate list 'aws://sa-east-1/*'
             magalu-migrate list 'aws://sa-east-1/web*' --output json
    """
    if not is_live(address):
        hint = f"`magalu-migrate inspect {one_line(address)}` shows what a file holds."
        raise click.UsageError(f"{one_line(address)} is no address of a cloud or a hypervisor. {hint}")
    with running(output) as run, live_source(run, address, NoLedger(), source) as live:
        found = sorted(live.list(), key=lambda vm: (vm.name, vm.address or ""))
    if output == "json":
        print_json({"vms": [_json(vm) for vm in found]})
    elif not found:
        print_lines([Line(f"{one_line(address)} names no VM")])
    else:
        _print_table(found)
        print_lines([Line(counted(len(found), "VM"), "dim")])


def _print_table(vms: list[Vm]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in COLUMNS:
        # What is cut off of a name or an address cannot be copied.
        table.add_column(
            name, justify="right" if name in ("vCPU", "memory") else "left", overflow="fold", no_wrap=name == "disks"
        )
    for vm in vms:
        table.add_row(*(Text(cell) for cell in _cells(vm)))
    console = Console(highlight=False)
    if not console.is_terminal:  # a program reads it: a line is a VM
        console = Console(highlight=False, width=Console(width=WIDEST).measure(table).maximum)
    console.print(table)


def _cells(vm: Vm) -> tuple[str, ...]:
    disks = " + ".join(size(disk.size) for disk in vm.disks)
    return tuple(
        one_line(text)
        for text in (
            vm.name,
            vm.power or "",
            vm.os_hint or "",
            str(vm.vcpus or ""),
            size(vm.memory_bytes) if vm.memory_bytes else "",
            vm.firmware.value if vm.firmware else "",
            disks,
            vm.address or "",
        )
    )


def _json(vm: Vm) -> dict[str, object]:
    return asdict(vm) | {"firmware": vm.firmware.value if vm.firmware else None, "tags": dict(vm.tags)}
