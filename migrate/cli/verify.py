"""`verify`: is what is stored what was read?"""

import os
from dataclasses import replace
from pathlib import Path

import click

from migrate import block_map
from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import print_json, print_lines, running
from migrate.data_disks import blocks_of, sent_disk
from migrate.errors import UsageError
from migrate.job import Jobs
from migrate.lines import Line
from migrate.outcome import Sent
from migrate.run import Run
from migrate.text import shown, size
from migrate.verify import Reader
from migrate.verify import verify as verified
from migrate.wiring.targets import place_of
from migrate.wiring.targets import target as target_of


@click.command(short_help="Compare a stored image with what was read from the source.")
@click.argument("job")
@click.option(
    "--image",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Verify this file. Default: the object in the bucket (vm --keep-object leaves it there).",
)
@click.option(
    "--disk",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Which disk of the VM; from 2 on those that --data-disks upload has sent.",
)
@work_option
@output_option
def verify(job: str, image: Path | None, disk: int, work: Path, output: str) -> None:
    """Read an image back and compare each 4 MiB of its disk with what was read while it was made.

    \b
    Example: magalu-migrate verify erp01-1a2b3c4d
    """
    with running(output) as run:
        found = next((one for one in Jobs(work).all() if one.name == job), None)
        sent = None if found is None else found.result("transfer", Sent) if disk == 1 else sent_disk(found, disk)
        if found is None or sent is None:
            raise UsageError(
                f"there is no finished transfer of disk {disk} of a job {shown(job)} in {work}",
                hint="`magalu-migrate clean --all --dry-run` lists all jobs.",
            )
        blocks = block_map.read(found.blocks if disk == 1 else blocks_of(found, disk))
        with run.stage("verify") as stage:
            if image is not None:
                _verify_file(run, image, blocks, stage.name)
            else:
                place = replace(place_of(found.request, work), bucket=sent.bucket)
                with target_of(run, place, found.ledger) as target:
                    if target.stored(sent.key, sent.mark) is None:
                        raise UsageError(
                            f"{sent.bucket}/{sent.key} is not there any more",
                            hint="It goes once the image is active, unless vm has --keep-object. Verify a kept file with --image.",
                        )
                    verified(run, lambda offset, length: target.read(sent.ref, offset, length), blocks, stage.name)
            stage.summary = f"{size(blocks.disk_bytes)}: every 4 MiB as they were read"
    if output == "json":
        print_json({"status": "same", "disk_sha256": blocks.digest})
    else:
        print_lines([Line(f"SHA-256 of the disk's blocks: {blocks.digest}")])


def _verify_file(run: Run, image: Path, blocks: block_map.BlockMap, stage: str) -> None:
    with image.open("rb", buffering=0) as file:
        descriptor = file.fileno()
        read: Reader = lambda offset, length: os.pread(descriptor, length, offset)  # noqa: E731
        verified(run, read, blocks, stage)
