"""A guest of another cloud after all remediations, for the tests of what that cloud leaves."""

import functools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fixtures.guests import guest
from migrate.effects import Changes, Finding
from migrate.guest import File, Link
from migrate.guests.memory import MemoryGuest
from migrate.remediate import preview, remediate
from migrate.remediation import Settings
from migrate.run import Run
from remediations import BUILTIN


@dataclass(frozen=True, slots=True)
class Moved:
    """`said` is the preview, `guest` what became of it."""

    guest: MemoryGuest
    said: Changes

    def text(self, path: str) -> str | None:
        entry = self.guest.tree.get(path)
        return entry.text if isinstance(entry, File) else None

    def paths(self, *words: str) -> list[str]:
        """Return the files and links whose path holds one of the words."""
        files = (path for path, entry in self.guest.tree.items() if isinstance(entry, File | Link))
        return [path for path in files if any(word in path for word in words)]

    def told(self, code: str) -> list[str]:
        return [f"{finding.text} {finding.remedy or ''}".strip() for finding in self.findings if finding.code == code]

    def why(self, path: str) -> set[str]:
        return {effect.why for effect in self.said.effects if getattr(effect, "path", None) == path}

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.said.findings


@functools.cache
def moved(name: str) -> Moved:
    """Move a guest of fixtures/guests, once for all tests, which only look at it. The preview of it is what is done."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder:
        run = Run(Path(folder))
        to = guest(name)
        said = preview(run, to, BUILTIN, Settings())
        done = remediate(run, to, BUILTIN, Settings(), "repair")
    assert done.effects == said.effects
    return Moved(to, said)
