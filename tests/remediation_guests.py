"""Guests and drafts for the tests of remediations, and what is asked of both again and again."""

from pathlib import Path

from migrate.draft import Draft
from migrate.effects import Changes, Edit, Removal
from migrate.guest import Entry, File, Folder, Link
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.remediate import remediate
from migrate.remediation import Remediation, Settings
from migrate.run import Run

GUESTS = Path(__file__).parent.parent / "fixtures" / "guests"


def guest(name: str) -> MemoryGuest:
    return from_yaml((GUESTS / f"{name}.yaml").read_text())


def done(to: MemoryGuest, *remediations: Remediation, settings: Settings | None = None) -> Changes:
    """Return what the remediations would do."""
    draft = Draft(to)
    for each in remediations:
        with draft.step(each.name):
            each.act(draft, settings or Settings())
    return draft.changes


def applied(run: Run, to: MemoryGuest, *remediations: Remediation, settings: Settings | None = None) -> MemoryGuest:
    """Return the guest with the remediations applied. Doing it once more changes nothing."""
    remediate(run, to, remediations, settings or Settings(), "repair")
    assert done(to, *remediations, settings=settings).effects == ()
    return to


def outcome(changes: Changes) -> dict[str, str | None]:
    """Return what each path that was changed is at the end: its text, "-> target", or None where it is gone. Folders are left out."""
    found: dict[str, str | None] = {}
    for effect in changes.effects:
        match effect:
            case Edit(path=path, after=after) if not isinstance(after, Folder):
                found[path] = shown(after)
            case Removal(path=path):
                found[path] = None
    return found


def shown(entry: Entry | None) -> str | None:
    match entry:
        case File():
            return entry.text
        case Link(target=target):
            return f"-> {target}"
    return None


def codes(changes: Changes) -> list[str]:
    return [finding.code for finding in changes.findings]
