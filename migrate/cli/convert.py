"""`convert`: a disk becomes a compressed qcow2, as it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from migrate.cli.opened import opened
from migrate.cli.options import output_option, source_options, work_option
from migrate.cli.terminal import print_json, print_lines, running
from migrate.convert import Engine, ImageFile
from migrate.convert import convert as converted
from migrate.errors import UsageError
from migrate.lines import Line
from migrate.qcow2 import Compression
from migrate.run import Note, Run
from migrate.source import Source, VmRef, check_unchanged
from migrate.text import shown, size
from migrate.wiring.sources import SourceOptions


@click.command(short_help="Make a compressed qcow2 of a disk, as it is.")
@click.argument("address")
@click.argument("image", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--format", "disk_format", help="What the disk is, e.g. raw for one without a partition table.")
@click.option(
    "--engine",
    type=click.Choice([engine.value for engine in Engine]),
    default=Engine.STREAM.value,
    show_default=True,
    help="Our own writer, or qemu-img for comparison.",
)
@click.option(
    "--compression",
    type=click.Choice([compression.value for compression in Compression]),
    default=Compression.ZLIB.value,
    show_default=True,
    help="zlib-small takes much longer for some 6 % fewer bytes; zstd sets a feature bit that QEMU before 5.1 does not read.",
)
@click.option("--force", is_flag=True, help="Replace the image where there is one.")
@source_options
@work_option
@output_option
def convert(
    address: str,
    image: Path,
    disk_format: str | None,
    engine: str,
    compression: str,
    force: bool,
    source: SourceOptions,
    work: Path,
    output: str,
) -> None:
    """Make a compressed qcow2 of a VM's boot disk, as it is: nothing is repaired.

    \b
    Example: magalu-migrate convert erp01.ova erp01.qcow2
    """
    with running(output) as run:
        if image.exists() and not force:
            raise UsageError(
                f"{shown(str(image))} is there already", hint="Name another file, or replace it with --force."
            )
        with (
            opened(run, address, disk_format, work, source) as (place, ref),
            _boot_disk(run, place, ref) as (uri, still),
            run.stage("convert") as stage,
        ):
            made = converted(
                run,
                uri,
                image.absolute(),
                stage.name,
                engine=Engine(engine),
                compression=Compression(compression),
                still=still,
            )
            stage.summary = f"{size(made.bytes)} for a disk of {size(made.virtual_bytes)}"
    if output == "json":
        print_json(_to_json(made))
    elif made.blocks:
        print_lines([Line(f"SHA-256 of the disk's blocks: {made.blocks.digest}")])


@contextmanager
def _boot_disk(run: Run, source: Source, ref: VmRef) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve the VM's boot disk; yield its URI, and what raises where it was changed meanwhile."""
    vm = source.describe(ref)
    for doubt in vm.doubts:
        run.tell(Note(f"{vm.name}: {doubt.text} ({doubt.code})", "warning"))
    token = source.freeze(vm, ref.name)
    try:
        with source.frozen(token) as disks, disks[0].nbd() as uri:
            yield uri, partial(check_unchanged, source, token)
    finally:
        source.release(token)


def _to_json(made: ImageFile) -> dict[str, object]:
    return {
        "image": str(made.path),
        "bytes": made.bytes,
        "virtual_bytes": made.virtual_bytes,
        "disk_sha256": made.blocks.digest if made.blocks else None,
    }
