"""How many requests a second EBS direct is asked: below its quota, and slower for a while after it has said that it were too many."""

import threading
import time

from migrate.run import Run

MOST = 900.0
"""A second. The quota of GetSnapshotBlock is 1000 for an account and region, and others may be reading. Source: AWS General Reference, EBS quotas."""

LEAST = 10.0
RECOVERY = 1.005
"""What each answered request raises the rate by: from half to whole in 140 answers."""


class Pace:
    """Shared by all threads that ask. `rate` is how many a second may be sent now."""

    def __init__(self, most: float = MOST) -> None:
        self._most = most
        self.rate = most
        self._next = 0.0
        self._slowed = 0.0
        self._lock = threading.Lock()

    def wait(self, run: Run) -> None:
        """Return when the next request may be sent. Raise Stopped where the user stops meanwhile."""
        with self._lock:
            now = time.monotonic()
            at = max(self._next, now)
            self._next = at + 1 / self.rate
        run.stop.wait(at - now)
        run.check()

    def answered(self) -> None:
        with self._lock:
            self.rate = min(self._most, self.rate * RECOVERY)

    def throttled(self) -> None:
        """Half as fast. Requests that were on the way together are refused together, and count once."""
        with self._lock:
            if time.monotonic() - self._slowed > 1:
                self._slowed = time.monotonic()
                self.rate = max(LEAST, self.rate / 2)
