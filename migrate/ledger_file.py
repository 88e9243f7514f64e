"""A job's ledger on disk: a line of JSON for each remote thing, synced before the thing it names is made."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from migrate.ledger import Made


class LedgerFile:
    """The remote things of one job, written down before they are made."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def will_make(self, kind: str, **names: str) -> None:
        self._append({"will_make": kind, **names})

    def gone(self, kind: str, **names: str) -> None:
        """What was made under these names is deleted, was never made, or belongs to the user now; a name that is left out matches any."""
        self._append({"gone": kind, **names})

    def left(self) -> tuple[Made, ...]:
        """Return what may still exist, oldest first."""
        left: list[Made] = []
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            try:
                names = {str(key): str(value) for key, value in json.loads(line).items()}
            except ValueError:
                continue  # the line that a crash cut off; what it named was not made yet
            if kind := names.pop("will_make", None):
                made = Made(kind, names)
                left = [*(one for one in left if one != made), made]
            elif kind := names.pop("gone", None):
                left = [one for one in left if one.kind != kind or not _same(one.names, names)]
        return tuple(left)

    def _append(self, line: Mapping[str, str]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _same(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """An image is written down before the cloud has told its id, and again with it: what both name must agree."""
    return all(other.get(key, value) == value for key, value in one.items())
