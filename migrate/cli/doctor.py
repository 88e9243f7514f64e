"""`doctor`: what this machine has and lacks."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from migrate.cli.options import output_option, work_option
from migrate.cli.terminal import FAILED, print_json, print_lines, running
from migrate.doctor import checks
from migrate.lines import Line
from migrate.wiring.checks import checks as wired_checks


@click.command(short_help="Say what this machine has and lacks, and what mends it.")
@work_option
@output_option
def doctor(work: Path, output: str) -> None:
    """Say what this machine has and can do, and how to mend what is missing.

    \b
    Example: magalu-migrate doctor
    """
    with running(output) as run:
        found = []
        for check in checks(run, work, wired_checks(run)):
            found.append(check)
            if output == "text":
                style = {"ok": "green", "slow": "yellow", "miss": "red"}[check.verdict]
                print_lines([Line(f"{check.verdict:<5} {check.text}", style)])
                if check.remedy:
                    print_lines([Line(f"      {check.remedy}")])
    lacks = [check for check in found if check.verdict == "miss"]
    missing = len(lacks)
    if output == "json":
        print_json({"checks": [asdict(check) for check in found], "missing": missing})
    elif missing:
        without = lacks[0].without if missing == 1 else None
        works = f" What works without it: {without}." if without else ""
        print_lines([Line(f"{missing} thing{'s are' if missing > 1 else ' is'} missing.{works}")])
    if missing:
        sys.exit(FAILED)
