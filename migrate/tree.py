"""What differs between two states of a guest, path by path, without reading what did not change."""

from dataclasses import dataclass

from migrate.errors import GuestError
from migrate.guest import Entry, Guest, Kind, Status


@dataclass(frozen=True, slots=True)
class TreeChange:
    """A path that is new, gone, or another: its status in both states, None where it is not there."""

    path: str
    before: Status | None
    after: Status | None

    @property
    def what(self) -> str:
        if self.before is None:
            return "new"
        return "gone" if self.after is None else "changed"


def tree_changes(old: Guest, new: Guest) -> tuple[TreeChange, ...]:
    """Return how `new` differs from `old`, in the order of paths. Contents are read only where their marks differ and their sizes do not."""
    before, after = old.statuses(), new.statuses()
    changes = (TreeChange(path, before.get(path), after.get(path)) for path in sorted(before.keys() | after.keys()))
    return tuple(change for change in changes if not _is_same(change, old, new))


def _is_same(change: TreeChange, old: Guest, new: Guest) -> bool:
    match change.before, change.after:
        case Status() as before, Status() as after:
            shown = (before.kind, before.mode, before.uid, before.gid, before.size)
            if shown != (after.kind, after.mode, after.uid, after.gid, after.size):
                return False
            if before.mark == after.mark or before.kind in (Kind.FOLDER, Kind.OTHER):
                return True
            return loaded(old, change.path) == loaded(new, change.path)
    return False


def loaded(guest: Guest, path: str) -> Entry | str | None:
    """Return what is at a path; None where there is nothing, and why in words where it cannot be read."""
    match guest.kind(path):
        case Kind.MISSING:
            return None
        case Kind.OTHER:
            return "a device, socket or pipe"
    try:
        return guest.load(path)
    except GuestError as error:
        return error.message
