"""Folders of a guest with very many files, in the overlay room: what they hold, and their removal.

fuse2fs looks a name up by reading its folder from the start: 0.2 ms in a folder of 500 files, 0.9 ms in one of 8,000 (measured), so that a question
for each of 100,000 files takes a quarter of an hour. debugfs lists 8,000 in 15 ms; the guest's own kernel removes them in the appliance.
"""

import re
from collections.abc import Iterator, Mapping

from migrate.errors import ToolFailed
from migrate.guest import Kind
from migrate.guests.cell import READING, Cell
from migrate.guests.immutable import is_speakable
from migrate.guests.paths import parent

LARGE = 1000
"""Files in a folder from which on it is worth another way."""

_ENTRY = re.compile(r"/(\d+)/(\d{5,6})/\d*/\d*/(.+)/\d*/")
_KINDS = {"10": Kind.FILE, "04": Kind.FOLDER, "12": Kind.LINK}


def kinds_in_ext(cell: Cell, image: str, folder: str) -> Mapping[str, Kind]:
    """Return what each name in a folder of an ext2, ext3 or ext4 is, by debugfs(8); odd names are left out. {} where it does not answer."""
    if not is_speakable(folder):
        return {}
    try:
        said = cell.tool(["debugfs", "-R", f'ls -p "{folder}"', image], limits=READING, timeout=120).text
    except ToolFailed:
        return {}
    return dict(_entries(said))


def _entries(said: str) -> Iterator[tuple[str, Kind]]:
    for line in said.splitlines():
        if (entry := _ENTRY.fullmatch(line)) is not None and entry[1] != "0":
            yield entry[3], _KINDS.get(entry[2].zfill(6)[:2], Kind.OTHER)


class Folders:
    """What is remembered of folders, and which large ones are given up: they are gone for whoever asks, and go when the guest is carried."""

    def __init__(self) -> None:
        self._kinds: dict[str, Mapping[str, Kind]] = {}
        self._large: set[str] = set()
        self._given_up: set[str] = set()

    def kinds(self, folder: str) -> Mapping[str, Kind] | None:
        return self._kinds.get(folder)

    def is_large(self, folder: str) -> bool:
        """Whether it is known to hold very many files: what is remembered of it may lack odd names then, and is whole otherwise."""
        return folder in self._large

    def remember(self, folder: str, kinds: Mapping[str, Kind]) -> None:
        self._kinds[folder] = kinds

    def remember_large(self, folder: str) -> None:
        self._large.add(folder)

    def forget(self, path: str) -> None:
        """Something at the path changed, with what is below it."""
        self._kinds = {
            folder: kinds
            for folder, kinds in self._kinds.items()
            if folder not in (path, parent(path)) and not folder.startswith(f"{path}/")
        }

    def forget_all(self) -> None:
        self._kinds.clear()
        self._large.clear()

    @property
    def given_up(self) -> tuple[str, ...]:
        return tuple(sorted(self._given_up))

    def give_up(self, path: str) -> None:
        self._given_up = {each for each in self._given_up if not each.startswith(f"{path}/")} | {path}

    def take_back(self, path: str) -> None:
        self._given_up.discard(path)

    def is_given_up(self, path: str) -> bool:
        return any(path == each or path.startswith(f"{each}/") for each in self._given_up)
