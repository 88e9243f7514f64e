"""The preview as one self-contained page: opened from a file, without a network, on a screen, a phone and on paper.

Everything of the guest is hostile. It is escaped by the template engine, and what cannot be seen is made visible; beyond that, the page's policy
lets nothing run but the one script and nothing style but the one sheet whose digests it names, and forbids every request.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from migrate import hidden
from migrate.effects import Edit, Effect, Finding, LayoutEdit, PackageEdit, RebuildRequest, Removal, Severity
from migrate.guest import Folder, Link, Package
from migrate.html import asset, environment, policy
from migrate.preview.difference import difference
from migrate.preview.preview import Preview, data_disks, head
from migrate.preview.rehearsal import told
from migrate.preview.screen import answer, entries, installed, without_folders
from migrate.preview.summary import enclosing, layout_words, summary
from migrate.remediation import Remediation
from migrate.text import counted, one_line, size

FOLDER = Path(__file__).with_name("assets")

MOST_LINES = 400
"""Of one diff."""
MOST_LINES_OF_ALL = 20_000
MOST_LONG = 2000
"""Characters of a line, a path or a reason."""
MOST_ITEMS = 500
"""Of paths that share a reason."""
FOLDED_ITEMS = 12
"""More paths than this are folded."""


def html(preview: Preview, remediations: Sequence[Remediation], *, command: str | None = None) -> str:
    """Return the page. `command` is what applies exactly this plan."""
    plan = preview.changes.plan
    css = asset(FOLDER / "page.css").replace("{{ plan }}", plan)
    script = asset(FOLDER / "page.js")
    found = sorted(preview.changes.findings, key=_weight)
    names = {effect.by for effect in preview.changes.effects}
    words = [_word(finding) for finding in found]
    return (
        environment(FOLDER)
        .get_template("page.html")
        .render(
            preview=preview,
            title=one_line(preview.vm.name),
            policy=policy(css, script),
            css=css,
            script=script,
            head=head(preview),
            answer=answer(preview),
            command=command,
            beside=tuple(told(preview.rehearsal)) if preview.rehearsal else (),
            rows=tuple((word, tuple(rows)) for word, rows in groupby(_rows(preview), key=lambda row: row.word)),
            findings=tuple(_finding(finding, names) for finding in found),
            severities=tuple((word, words.count(word)) for word in dict.fromkeys(words)),
            facts=tuple((fact.name, hidden.sentence(fact.text).strip("\n")) for fact in preview.changes.facts),
            sections=tuple(_sections(preview.changes.effects, remediations)),
        )
    )


# The summary


@dataclass(frozen=True, slots=True)
class Row:
    word: str
    text: str = ""
    paths: tuple[str, ...] = ()


def _rows(preview: Preview) -> Iterator[Row]:
    found = summary(preview.changes)
    if found.packages_removed:
        yield Row("Remove", f"{counted(len(found.packages_removed), 'package')}: {_named(found.packages_removed)}")
    for group in found.removed:
        yield Row("Remove", f"{len(group.paths)} {group.noun}", group.paths)
    for change in found.installs:
        yield Row("Install", installed(change, len(change.install)))
    if found.changed:
        yield Row("Change", counted(len(found.changed), "path"), found.changed)
    if found.added:
        yield Row("Add", counted(len(found.added), "path"), found.added)
    for layout in found.layout:
        yield Row("Disk", layout_words(layout))
    for what, whys in found.rebuilds:
        yield Row("Rebuild", f"{what.value}, because it {'; and '.join(whys)}")
    if preview.read_bytes is not None:
        yield Row("Read", f"at most {size(preview.read_bytes)} of the source's {size(preview.layout.disk_size)}")
    for disk in data_disks(preview):
        yield Row("Not in the image", disk.words)
    if found.download_bytes:
        yield Row("Fetch", f"{size(found.download_bytes)} of packages for the guest")


def _named(packages: Sequence[Package]) -> str:
    return ", ".join(f"{package.name} {package.version}" for package in packages)


# Findings


@dataclass(frozen=True, slots=True)
class FindingItem:
    """`anchor` leads to what the same remediation does, None where it does nothing."""

    word: str
    code: str
    by: str
    anchor: str | None
    text: str
    remedy: str | None


def _weight(finding: Finding) -> tuple[bool, int]:
    return finding.waived, [Severity.ERROR, Severity.WARNING, Severity.NOTE].index(finding.severity)


def _word(finding: Finding) -> str:
    return "waived" if finding.waived else finding.severity.value


def _finding(finding: Finding, names: set[str]) -> FindingItem:
    return FindingItem(
        _word(finding),
        finding.code,
        finding.by,
        _anchor(finding.by) if finding.by in names else None,
        hidden.sentence(finding.text),
        None if finding.remedy is None else hidden.sentence(finding.remedy),
    )


def _anchor(name: str) -> str:
    return f"r-{name}"


# Changes


@dataclass(frozen=True, slots=True)
class DiffLine:
    """`kind` is "a" for added, "d" for deleted, "h" for the head of a hunk, "" for what stays."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """A path and what happens to it; `cut` says what the page leaves out of its diff."""

    path: str
    notes: tuple[str, ...] = ()
    lines: tuple[DiffLine, ...] = ()
    plus: int = 0
    minus: int = 0
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """What is done for one reason. `head` is what has no path; `folded` says where the paths are when there are many of them."""

    verb: str
    why: str
    head: str
    paths: tuple[Item, ...]
    folded: str
    left_out: int


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    anchor: str
    title: str
    about: str
    sources: tuple[str, ...]
    count: str
    groups: tuple[Group, ...]


def _sections(effects: Sequence[Effect], remediations: Sequence[Remediation]) -> Iterator[Section]:
    known = {remediation.name: remediation for remediation in remediations}
    room = Room(MOST_LINES_OF_ALL)
    for name, found in groupby(effects, key=lambda effect: effect.by):
        own = list(found)
        remediation = known.get(name)
        yield Section(
            name,
            _anchor(name),
            remediation.title if remediation else name,
            remediation.about if remediation else "",
            remediation.sources if remediation else (),
            counted(len(own), "change"),
            tuple(_groups(without_folders(own), room)),
        )


@dataclass(slots=True)
class Room:
    """How many lines of diffs the page still takes."""

    lines: int

    def take(self, wanted: int) -> int:
        taken = min(wanted, self.lines)
        self.lines -= taken
        return taken


def _groups(effects: Sequence[Effect], room: Room) -> Iterator[Group]:
    for (verb, why), found in groupby(effects, key=lambda effect: (_verb(effect), effect.why)):
        alike = list(found)
        paths = [effect for effect in alike if isinstance(effect, Edit | Removal)]
        for effect in alike:
            if not isinstance(effect, Edit | Removal):
                yield from (Group(each, why, said, (), "", 0) for each, said in _deeds(effect))
        if paths:
            most = tuple(_item(effect, room) for effect in paths[:MOST_ITEMS])
            places = enclosing(tuple(effect.path for effect in paths))
            folded = (
                ", ".join(f"{count} in {folder}" for folder, count in places[:4]) if len(paths) > FOLDED_ITEMS else ""
            )
            yield Group(verb, why, "", most, folded, len(paths) - len(most))


def _verb(effect: Effect) -> str:
    match effect:
        case Removal():
            return "remove"
        case Edit(before=None, after=after):
            return "link" if isinstance(after, Link) else "folder" if isinstance(after, Folder) else "add"
        case Edit():
            return "edit"
        case PackageEdit():
            return "packages"
        case LayoutEdit():
            return "disk"
        case RebuildRequest():
            return "rebuild"


def _deeds(effect: PackageEdit | LayoutEdit | RebuildRequest) -> Iterator[tuple[str, str]]:
    match effect:
        case PackageEdit(change=change):
            for verb, packages in (("remove", change.remove), ("install", change.install)):
                if packages:
                    yield verb, f"{counted(len(packages), 'package')}: {_named(packages)}"
        case LayoutEdit(change=layout):
            yield "disk", layout_words(layout)
        case RebuildRequest(what=what):
            yield "rebuild", what.value


def _item(effect: Edit | Removal, room: Room) -> Item:
    if isinstance(effect, Removal):
        return Item(effect.path, (f"and {entries(effect.inside)} in it",) if effect.inside else ())
    found = difference(effect.path, effect.before, effect.after)
    taken = room.take(min(len(found.lines), MOST_LINES))
    rest = len(found.lines) - taken
    marks = [line[:1] for line in found.lines]
    return Item(
        effect.path,
        found.notes,
        tuple(DiffLine({"+": "a", "-": "d", "@": "h"}.get(line[:1], ""), _cut(line)) for line in found.lines[:taken]),
        marks.count("+"),
        marks.count("-"),
        f"{counted(rest, 'more line')} left out of this page; the JSON has them all." if rest else "",
    )


def _cut(line: str) -> str:
    return line if len(line) <= MOST_LONG else f"{line[:MOST_LONG]}… {len(line) - MOST_LONG:,} more characters"
