"""How long we wait for what AWS makes, and what is told meanwhile."""

import time
from dataclasses import dataclass

from adapters.aws.account import Account
from migrate.errors import SourceBusy
from migrate.run import Note, Progress
from migrate.text import took


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. `settle` is how long EC2 may take to show what was just made ("eventual consistency" in its API reference), `poll` lies
    between two looks at what is on its way, `stalled` is how long that may not move, `ending` how long what was cancelled may take to end.
    """

    settle: float = 3.0
    poll: float = 5.0
    stalled: float = 3600.0
    ending: float = 120.0


class Waiting:
    """A wait for something that AWS makes: what it is ("making 2 snapshots of i-…") is told once, how far it is whenever that changes."""

    def __init__(self, account: Account, what: str, patience: Patience) -> None:
        self._account = account
        self._what = what
        self._patience = patience
        self._told = ""
        self._changed = time.monotonic()

    def pause(self, state: str, done: int, total: int, unit: str) -> None:
        """Return when it is time for another look. Raise SourceBusy where nothing has moved for too long, Stopped where the user stops."""
        run = self._account.run
        if state != self._told:
            if not self._told:
                run.tell(Note(f"AWS is {self._what}"))
            self._told, self._changed = state, time.monotonic()
            run.tell(Progress("freeze", done, total, unit, state))
        if time.monotonic() - self._changed > self._patience.stalled:
            raise SourceBusy(
                f"AWS is {self._what}, and that has not moved for {took(self._patience.stalled)} ({state})",
                hint="Run it again later.",
            )
        run.stop.wait(self._patience.poll)
        run.check()
