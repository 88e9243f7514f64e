"""`prove`: does an image come up as Magalu would boot it?"""

import sys
from pathlib import Path

import click

from migrate.cli.options import output_option
from migrate.cli.terminal import FAILED, print_json, print_lines, running
from migrate.proof.lines import lines as proof_lines
from migrate.source import Firmware
from migrate.wiring.proofs import prove_image


@click.command(short_help="Boot an image as Magalu would; does it come up?")
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--uefi", is_flag=True, help="Boot with UEFI firmware, as an image imported with uefi=true.")
@click.option("--user", help="Whom the key must admit. Default: the usual default users, one after the other.")
@output_option
def prove(image: Path, uefi: bool, user: str | None, output: str) -> None:
    """Boot a qcow2 in a closed sandbox as Magalu would, and show whether it comes up. The image is not changed.

    \b
    Example: magalu-migrate prove erp01.qcow2
    """
    with running(output) as run, run.stage("prove") as stage:
        firmware = Firmware.UEFI if uefi else Firmware.BIOS
        proof = prove_image(run, image, firmware, user)
        stage.summary = str(proof["summary"])
    if output == "json":
        print_json(proof)
    else:
        print_lines(proof_lines(proof))
    if not proof["held"]:
        sys.exit(FAILED)
