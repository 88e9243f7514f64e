"""How the images of a batch are called: a text with fields such as {name}, of which there are few."""

import difflib
import re
from collections.abc import Mapping
from datetime import date
from string import Formatter

from migrate.errors import UsageError
from migrate.text import one_line

FIELDS: Mapping[str, str] = {
    "name": "the VM's name, what no image may be called by replaced with -",
    "date": "the day on which the batch is begun, as 20261123",
    "batch": "the batch's name",
    "number": "1, 2, 3 … within the entry",
}
LONGEST = 255
_TAKEN = re.compile(r"[A-Za-z0-9_-]*")
"""Source: Magalu Cloud's API, custom images, as MGC-001 in migrate/codes.yaml tells."""


def check_template(text: str) -> None:
    """Raise UsageError for a template that has other fields, or could not be an image's name."""
    try:
        parts = [*Formatter().parse(text)]
    except ValueError as error:
        raise UsageError(f'"{one_line(text)}" is no template: {error}', hint=_hint()) from error
    for literal, field, spec, conversion in parts:
        if not _TAKEN.fullmatch(literal):
            raise UsageError(
                f'"{one_line(text)}" cannot be the name of an image', hint="It has letters, digits, - and _ only."
            )
        if field is None:
            continue
        if field not in FIELDS or spec or conversion:
            near = difflib.get_close_matches(field, FIELDS, 1)
            meant = f"; did you mean {{{near[0]}}}?" if near else ""
            raise UsageError(f"a name has no field {{{one_line(field)}}}{meant}", hint=_hint())
    if not text or len(text) > LONGEST:
        raise UsageError(f"the name of an image has 1 to {LONGEST} characters; this one has {len(text)}")


def is_fixed(text: str) -> bool:
    """Whether all VMs of an entry would get the same name."""
    return not {field for _, field, _, _ in Formatter().parse(text)} & {"name", "number"}


def rendered(text: str, *, name: str, day: date, batch: str, number: int) -> str:
    """Return the name of an image, at most as long as one may be."""
    return text.format(name=safe(name), date=f"{day:%Y%m%d}", batch=safe(batch), number=number)[:LONGEST]


def safe(name: str) -> str:
    """Return a VM's name as an image's has it."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", name).strip("-")[:200] or "vm"


def _hint() -> str:
    return f"The fields are {', '.join(f'{{{field}}}' for field in FIELDS)}."
