"""Which of two package versions is newer, as the package managers themselves decide it. Pure text in, order out.

Sources: deb-version(7), "Sorting algorithm"; rpm's documentation, "Dependencies", and rpmio/rpmvercmp.c for "~" and "^".
"""

import itertools
import re
from collections.abc import Callable

from migrate.guest import Packaging

Order = Callable[[str, str], int]


def order(packaging: Packaging) -> Order | None:
    """Return what compares the versions of a package manager; None where it is not known how it does.

    The comparison returns a number below, equal to or above 0, as the first version is older, equal or newer.
    """
    match packaging:
        case Packaging.DPKG:
            return compare_dpkg
        case Packaging.RPM:
            return compare_rpm
    return None


def compare_dpkg(one: str, other: str) -> int:
    """Compare [EPOCH:]UPSTREAM[-REVISION]; a missing revision is one of "0"."""
    for mine, theirs in zip(_dpkg_parts(one), _dpkg_parts(other), strict=True):
        if found := _compare_dpkg_part(mine, theirs):
            return found
    return 0


def compare_rpm(one: str, other: str) -> int:
    """Compare [EPOCH:]VERSION[-RELEASE]; without a release it is older than with any."""
    (my_epoch, mine, my_release), (their_epoch, theirs, their_release) = _rpm_parts(one), _rpm_parts(other)
    if found := my_epoch - their_epoch or _compare_rpm_part(mine, theirs):
        return found
    if my_release is None or their_release is None:
        return (my_release is not None) - (their_release is not None)
    return _compare_rpm_part(my_release, their_release)


def _dpkg_parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon:
        epoch, rest = "0", epoch
    upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "0")
    return epoch, upstream, revision


def _compare_dpkg_part(mine: str, theirs: str) -> int:
    """Text and numbers take turns, text first; either may be missing at the end."""
    for (my_text, my_number), (their_text, their_number) in itertools.zip_longest(
        _turns(mine), _turns(theirs), fillvalue=("", "")
    ):
        for my_char, their_char in itertools.zip_longest(my_text, their_text, fillvalue=""):
            if found := _weight(my_char) - _weight(their_char):
                return found
        if found := int(my_number or 0) - int(their_number or 0):
            return found
    return 0


def _turns(text: str) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in re.finditer(r"([^0-9]*)([0-9]*)", text) if found[0]]


def _weight(char: str) -> int:
    """A tilde comes before the end, the end before letters, letters before everything else."""
    if char == "~":
        return -1
    if not char:
        return 0
    return ord(char) if char.isascii() and char.isalpha() else ord(char) + 0x110000


def _rpm_parts(version: str) -> tuple[int, str, str | None]:
    epoch, colon, rest = version.strip().partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version.strip()
    name, dash, release = rest.rpartition("-")
    return int(epoch), name if dash else rest, release if dash else None


_RPM_PIECES = re.compile(r"[0-9]+|[A-Za-z]+|~|\^")


def _compare_rpm_part(mine: str, theirs: str) -> int:
    """Runs of digits and of letters are compared one after the other; what separates them does not count.

    A tilde comes before the end, a caret after it but before any further piece; a number is newer than letters.
    """
    for my, their in itertools.zip_longest(_RPM_PIECES.findall(mine), _RPM_PIECES.findall(theirs)):
        if my == their:
            continue
        if "~" in (my, their):
            return -1 if my == "~" else 1
        if "^" in (my, their):
            ends, caret = (their, 1) if my == "^" else (my, -1)
            return caret if ends is None else -caret
        if my is None or their is None:
            return -1 if my is None else 1
        if my[0].isdigit() != their[0].isdigit():
            return 1 if my[0].isdigit() else -1
        if found := int(my) - int(their) if my[0].isdigit() else (my > their) - (my < their):
            return found
    return 0
