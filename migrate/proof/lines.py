"""The proof as a person reads it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from migrate.lines import Line
from migrate.text import shown


def lines(proof: Mapping[str, object]) -> Iterator[Line]:
    """Yield a proof as a person reads it: the answer, each claim with its evidence, and on failure the console's end."""
    held = bool(proof["held"])
    yield Line(
        f"{'It holds' if held else 'It does not hold'}: {shown(str(proof['summary']))}",
        "bold green" if held else "bold red",
    )
    for claim in cast(Sequence[Mapping[str, object]], proof["claims"]):
        verdict = "ok" if claim["held"] else ("no" if claim["needed"] else "--")
        style = {"ok": "green", "no": "red", "--": "yellow"}[verdict]
        seconds = f"{claim['seconds']:>6} s" if claim["seconds"] is not None else " " * 8
        yield Line(f"  {verdict}  {seconds}  {claim['text']}: {shown(str(claim['evidence']))}", style)
    for reason in cast(Sequence[str], proof["reasons"]):
        yield Line(f"  {shown(reason)}")
    if not held:
        yield Line()
        yield Line("the console's last lines:", "bold")
        for line in cast(Sequence[str], proof["console"])[-25:]:
            yield Line(f"  {shown(line)}", "dim")
