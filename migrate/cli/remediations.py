"""`remediations`: the repairs, listed and explained."""

import click

from migrate import preview as previews
from migrate.cli.options import output_option
from migrate.cli.terminal import print_json, print_lines, running
from migrate.codes import register
from migrate.lines import Line
from migrate.remediation import Profile, check_names
from migrate.wiring.guests import REMEDIATIONS


@click.group()
def remediations() -> None:
    """The repairs: list them, or explain one."""


@remediations.command("list")
@output_option
def list_remediations(output: str) -> None:
    """Every repair, in the order in which they are made.

    \b
    Example: magalu-migrate remediations list
    """
    if output == "json":
        print_json(
            [
                {"name": r.name, "title": r.title, "profiles": [p.value for p in Profile if p in r.profiles]}
                for r in REMEDIATIONS
            ]
        )
        return
    print_lines(previews.listed(REMEDIATIONS))


@remediations.command("codes")
@output_option
def list_codes(output: str) -> None:
    """Every code that a finding or a refusal can have.

    \b
    Example: magalu-migrate remediations codes
    """
    if output == "json":
        print_json([{"code": name, **code.model_dump(mode="json")} for name, code in register().items()])
        return
    print_lines(Line(f"{name:<10} {code.severity.value:<8} {code.title}") for name, code in register().items())


@remediations.command("explain")
@click.argument("name")
def explain_remediation(name: str) -> None:
    """What a repair does, why, on which guests, and where we know it from; or what a finding's code means.

    \b
    Example: magalu-migrate remediations explain strip-macs
             magalu-migrate remediations explain NET-012
    """
    codes = register()
    if (code := codes.get(name.upper())) is not None:
        print_lines(previews.meaning(name.upper(), code))
        return
    by_name = {remediation.name: remediation for remediation in REMEDIATIONS}
    with running("text"):
        hint = "`magalu-migrate remediations list` and `remediations codes` show all."
        check_names("explain", [name], [*by_name, *codes], "remediation or finding", hint)
    print_lines(previews.explained(by_name[name], codes))
