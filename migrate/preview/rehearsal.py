"""What came of a rehearsal: whether the repairs, really made, were those that the preview said, and nothing else was touched."""

from collections.abc import Iterator
from dataclasses import dataclass

from migrate.lines import WIDTH, Line, wrapped
from migrate.text import counted, one_line

INSTALLED = "files of packages that were installed"
REMOVED = "files of packages that were removed"
OWN_FILES = frozenset({INSTALLED, REMOVED})


@dataclass(frozen=True, slots=True)
class Drift:
    """Where what was done is not what was said. `path` is empty where it is about no path."""

    text: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Explained:
    """Paths that the preview did not name one by one, and what explains them; `package` where they belong to one that it named."""

    what: str
    paths: tuple[str, ...]
    package: str = ""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a rehearsal found. `said` counts the preview's effects, `kept` those of them that came out as said."""

    said: int
    kept: int
    drift: tuple[Drift, ...] = ()
    explained: tuple[Explained, ...] = ()

    @property
    def held(self) -> bool:
        return not self.drift

    @property
    def summary(self) -> str:
        """A line for people."""
        if self.held:
            return f"no drift: {self.kept} of {counted(self.said, 'change')} came out as said, and nothing else was touched"
        return f"drift: {self.kept} of {counted(self.said, 'change')} came out as said, and {counted(len(self.drift), 'thing')} did not"


def rehearsed(rehearsal: Rehearsal, *, width: int = WIDTH) -> Iterator[Line]:
    """Yield what came of a rehearsal: the answer, each drift, and in few words what else is on the disk now and why."""
    yield from wrapped("Rehearsed: ", rehearsal.summary, "bold green" if rehearsal.held else "bold red", width=width)
    for drift in rehearsal.drift:
        yield from wrapped("  drift    ", one_line(drift.text), "red", width=width)
    for text in told(rehearsal):
        yield from wrapped("  beside   ", text, "dim", width=width)


def told(rehearsal: Rehearsal) -> Iterator[str]:
    """Yield what the preview did not name path by path, in words: files of packages together, and the rest by what explains it."""
    owned: dict[str, list[Explained]] = {}
    rest: list[str] = []
    for each in rehearsal.explained:
        if each.package:
            owned.setdefault(each.what, []).append(each)
        else:
            rest.append(f"{each.what}: {counted(len(each.paths), 'path')}")
    for what, found in owned.items():
        paths = sum(len(each.paths) for each in found)
        yield f"{what}: {counted(paths, 'path')} of {counted(len(found), 'package')}"
    yield from rest
