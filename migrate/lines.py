"""Lines of a screen, and prose that is wrapped into them. Nothing is drawn here."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

WIDTH = 118


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen; `style` only carries what the words already say."""

    text: str = ""
    style: str = ""


def wrapped(head: str, text: str, style: str = "", *, width: int = WIDTH) -> Iterator[Line]:
    """Yield `text` behind `head`, its further lines indented below it. A word that is longer than a line stays whole: it may be a path."""
    indent = " " * min(len(head), 20)
    found = textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False
    )
    for line in found or [head]:
        yield Line(line, style)
