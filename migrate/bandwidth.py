"""How fast may be sent: a limit in a file of the job, so that another terminal can change it while the transfer runs."""

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from migrate.errors import UsageError
from migrate.whole_file import write_whole

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
LOOK_S = 1.0
"""How long a change of the limit may take to be seen."""
BURST_S = 0.25


def parse(text: str) -> int:
    """Return bytes a second: "20M" is 20 * 10^6; 0 is no limit."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)B?(?:/s)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise UsageError(
            f"{text!r} is no bandwidth", hint="Say bytes a second with K, M or G, e.g. 20M; 0 lifts the limit."
        )
    return int(float(match[1]) * UNITS[match[2].upper()])


def limit(path: Path, bytes_per_second: int) -> None:
    """The limit holds for whoever sends for this job, now and in later runs."""
    write_whole(path, f"{bytes_per_second}\n".encode())


class Throttle:
    """Makes its callers wait so that together they keep to the limit in a file. No file, or 0, is no limit."""

    def __init__(self, path: Path, wait: Callable[[float], object] = time.sleep) -> None:
        self._path = path
        self._wait = wait
        self._lock = threading.Lock()
        self._looked = -LOOK_S
        self._rate = 0
        self._free_at = 0.0
        """When all that was let through so far would have been sent at the limit."""

    def take(self, count: int) -> None:
        """Return once so many bytes may go."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked >= LOOK_S:
                self._looked, self._rate = now, self._read()
            if self._rate <= 0:
                return
            self._free_at = max(self._free_at, now - BURST_S) + count / self._rate
            pause = self._free_at - now
        if pause > 0:
            self._wait(pause)

    def _read(self) -> int:
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0
