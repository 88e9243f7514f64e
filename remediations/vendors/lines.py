"""Lines that a vendor wrote into files of the guest's own: taken out, or changed, by the vendor's data."""

import re
from collections.abc import Callable
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import pam
from remediations.vendors.catalogue import Lines, Vendor

MOST_TEXT = 4 << 20
"""No settings file is larger, in characters; one that is, is left alone."""
LONGEST = 4096
"""No line of one is longer; one that is, matches nothing."""
MOST_CHANGES = 16
"""As often as one line may hold what is changed."""


def rewrite(draft: Draft, vendor: Vendor) -> None:
    """No file holds a line of the vendor's. What must go together (PAM, NSS, sshd) does: it is one step."""
    for group in vendor.lines:
        for path in paths(draft, group):
            draft.edit(path, _rewriting(group, path), why=group.why)


def paths(draft: Draft, group: Lines) -> tuple[str, ...]:
    """Return the files that hold lines of a group."""
    found = []
    for path in dict.fromkeys(path for pattern in group.paths for path in draft.glob(pattern)):
        text = draft.read(path)
        if text is not None and len(text) <= MOST_TEXT and rewritten(text, group, path) != text:
            found.append(path)
    return tuple(found)


def rewritten(text: str, group: Lines, path: str = "") -> str:
    """Return the text without the lines that match as a whole, or with what the group says in their place.

    A pattern that holds a line end is matched against lines that follow each other. Line ends stay as they are, also those of DOS.
    In files of PAM, jumps over modules that go become shorter.
    """
    if r"\n" in group.pattern:
        return re.sub(rf"^(?:{group.pattern})(?:\n|\Z)", group.instead or "", text, flags=re.MULTILINE)
    if group.instead is None and PurePosixPath(path).is_relative_to("/etc/pam.d"):
        return pam.without(text, lambda line: _is_meant(line, group))
    return "".join(_line(raw, group) for raw in text.splitlines(keepends=True))


def _rewriting(group: Lines, path: str) -> Callable[[str], str]:
    return lambda text: rewritten(text, group, path)


def _line(raw: str, group: Lines) -> str:
    line = raw.rstrip("\r\n")
    end = raw[len(line) :]
    for _ in range(MOST_CHANGES):
        if not _is_meant(line, group):
            break
        if group.instead is None:
            return ""
        line = re.sub(group.pattern, group.instead, line, count=1)
    return line + end


def _is_meant(line: str, group: Lines) -> bool:
    return len(line) <= LONGEST and re.fullmatch(group.pattern, line) is not None
