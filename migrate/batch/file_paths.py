"""Files that a batch file names: one, or all that match a pattern; and what is said in it of paths, from its own folder."""

import glob
import os
import re
import stat
from pathlib import Path
from typing import Literal

from migrate.errors import UsageError
from migrate.text import one_line

_PATTERN = re.compile(r"[*?\[]")


def is_pattern(text: str) -> bool:
    return _PATTERN.search(text) is not None


def within(folder: Path, text: str) -> Path:
    """Return the path that a text means in a file of this folder, without links and dots of its own taken out."""
    home = os.path.expanduser(text)  # noqa: PTH111  (a Path's own raises where there is no such user)
    return Path(os.path.normpath(folder / home))


def kind(path: Path) -> Literal["file", "folder", None]:
    """Return what is at a path; None where nothing is, or nobody may look, or no path can be like that."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    return "folder" if stat.S_ISDIR(mode) else "file"


def found_files(folder: Path, text: str) -> tuple[Path, ...]:
    """Return the files and folders that a text names, sorted by path; a pattern is one where no file is called so.

    Raise UsageError for a pattern that is none, or where nothing is found.
    """
    whole = within(folder, text)
    if kind(whole) is not None:
        return (whole,)
    if not is_pattern(text):
        beside = whole.parent
        hint = None if kind(beside) == "folder" else f"There is no folder {one_line(str(beside))} either."
        raise UsageError(f"there is no file {one_line(str(whole))}", hint=hint)
    check_pattern(text)
    try:
        found = sorted(Path(path) for path in glob.glob(str(whole), recursive=True))  # noqa: PTH207  (a Path's own glob takes no absolute pattern)
    except (OSError, ValueError, re.error) as error:
        raise UsageError(f"the pattern {one_line(str(whole))} cannot be looked for: {error}") from error
    if not found:
        raise UsageError(f"no file matches {one_line(str(whole))}")
    return tuple(found)


def check_pattern(text: str) -> None:
    """Raise UsageError for a pattern that Python and the shells take for the character itself: an open bracket that is never closed."""
    rest = text
    while (at := rest.find("[")) >= 0:
        inside = rest[at + 1 :]
        skipped = 2 if inside.startswith("!]") else 1 if inside.startswith(("]", "!")) else 0
        end = inside.find("]", skipped)
        if end < 0:
            raise UsageError(
                f'the pattern "{one_line(text)}" opens a [ that is never closed', hint="[[] is a [ itself."
            )
        rest = inside[end + 1 :]
