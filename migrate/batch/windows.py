"""When work may start: windows of a day, in their own time zone, also past midnight."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from migrate.batch.model import Window

DAYS_AHEAD = 8


def closes(window: Window, at: datetime) -> datetime | None:
    """Return when the window that is open at this moment closes, in UTC; None where none is open."""
    for opened, closed in _spans(window, at):
        if opened <= at < closed:
            return closed
    return None


def opens(window: Window, at: datetime) -> datetime | None:
    """Return when the window opens next after this moment, in UTC; None where it never does."""
    return min((opened for opened, _ in _spans(window, at) if opened > at), default=None)


def _spans(window: Window, at: datetime) -> list[tuple[datetime, datetime]]:
    """The openings around a moment. One that closes when it opens lasts a whole day.

    Local times are laid on each day and turned into UTC then, so that a day on which clocks are changed has its own length.
    """
    zone = ZoneInfo(window.zone)
    today = at.astimezone(zone).date()
    found = []
    for ahead in range(-1, DAYS_AHEAD):
        day = today + timedelta(days=ahead)
        if day.weekday() not in window.days:
            continue
        last = day if window.closes > window.opens else day + timedelta(days=1)
        opened = datetime.combine(day, window.opens, zone).astimezone(UTC)
        found.append((opened, datetime.combine(last, window.closes, zone).astimezone(UTC)))
    return found
