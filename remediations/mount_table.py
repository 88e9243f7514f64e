"""Tables of columns such as fstab and crypttab: read by their own rules and changed one column at a time.

Comments, blank lines, spacing and columns that are not touched stay as they are. Sources: fstab(5), crypttab(5), getmntent(3).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

COLUMN = re.compile(r"[^ \t]+")
"""Other white space is part of a name: getmntent(3) splits at these two only."""
ESCAPE = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Row:
    """A line as it is written. A comment or a blank line has no columns."""

    line: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, their octal escapes resolved ("\\040" is a space)."""
        if self.line.lstrip(" \t").startswith("#"):
            return ()
        return tuple(_unescaped(word) for word in COLUMN.findall(self.line))

    def column(self, number: int) -> str:
        """Return a column, counted from 0; "" where the line has none there."""
        return self.columns[number] if number < len(self.columns) else ""

    def with_column(self, number: int, value: str) -> "Row":
        """Return the row with another value in a column that it has."""
        spot = list(COLUMN.finditer(self.line))[number]
        return Row(self.line[: spot.start()] + _escaped(value) + self.line[spot.end() :])


Change = Callable[[Row], tuple[Row, ...]]


def rewritten(text: str, change: Change) -> str:
    """Return the table with each row that has columns replaced by the rows that `change` makes of it."""
    lines: list[str] = []
    for line in text.split("\n"):
        row = Row(line)
        lines.extend(new.line for new in (change(row) if row.columns else (row,)))
    return "\n".join(lines)


def rows(text: str) -> tuple[Row, ...]:
    """Return the rows that have columns."""
    return tuple(row for row in map(Row, text.split("\n")) if row.columns)


def _unescaped(word: str) -> str:
    return ESCAPE.sub(lambda match: chr(int(match[1], 8)), word)


def _escaped(value: str) -> str:
    return re.sub(r"[ \t\n\\#]", lambda match: f"\\{ord(match[0]):03o}", value)
