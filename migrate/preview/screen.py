"""The preview as a person reads it on a terminal: the answer first, then the evidence, one fact a line.

What would bury the rest is folded, and each fold says how much it hides and how to see it: effects of one kind with one reason, long diffs,
long lines, and the folders that a new file needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from migrate import hidden
from migrate.draft import MOST_COUNTED
from migrate.effects import (
    Edit,
    Effect,
    Fact,
    Finding,
    LayoutEdit,
    PackageEdit,
    RebuildRequest,
    Removal,
    Severity,
)
from migrate.guest import File, Folder, Link, Package, PackageChange
from migrate.lines import WIDTH, Line, wrapped
from migrate.preview.difference import difference
from migrate.preview.preview import Preview, data_disks, head
from migrate.preview.rehearsal import rehearsed
from migrate.preview.summary import doubts, enclosing, layout_words, summary
from migrate.remediation import Remediation
from migrate.text import counted, one_line, shown, size

ALIKE = 5
"""Of more effects of one kind with one reason, the first ones are told one by one."""
DIFF = 40
"""Of a longer diff the first lines are shown."""
LONG = 200
"""Of a longer line in a diff the beginning is shown."""
LEFT_OUT = "An image holds the boot disk only; these disks are not in it."
SAY_SO = "`vm` sends them beside it with --data-disks upload, or leaves them behind with --data-disks skip."

REASON_AT = 50
"""Where the reason stands when it fits beside the deed."""


@dataclass(frozen=True, slots=True)
class Screen:
    """How a preview is written: `width` in columns; `fold` hides what would bury the rest; of `only`, where names are given, just the diffs."""

    width: int = WIDTH
    fold: bool = True
    only: tuple[str, ...] = ()


def lines(preview: Preview, remediations: Sequence[Remediation], screen: Screen | None = None) -> Iterator[Line]:
    """Yield the whole preview: head, answer, summary, findings, facts, then each remediation's diffs with their reasons."""
    screen = screen or Screen()
    changes = preview.changes
    yield from wrapped("", head(preview), "bold", width=screen.width)
    if not screen.only:
        yield Line()
        yield from wrapped("", answer(preview), "bold green" if preview.can_go else "bold red", width=screen.width)
        if not preview.can_go:  # what forbids it is the answer; what would be done comes after it
            yield from _findings(changes.findings, screen)
        if changes.effects:
            yield Line()
            yield from _summary(preview, screen)
        if preview.rehearsal is not None:
            yield Line()
            yield from rehearsed(preview.rehearsal, width=screen.width)
        if preview.can_go:
            yield from _findings(changes.findings, screen)
        yield from _data_disks(preview, screen)
        yield from _facts(changes.facts, screen)
    titles = {remediation.name: remediation.title for remediation in remediations}
    for by, found in groupby(changes.effects, key=lambda effect: effect.by):
        effects = list(found)
        if screen.only and by not in screen.only:
            continue
        yield Line()
        title = titles.get(by, "")
        yield from wrapped(f"{by}: ", f"{title[:1].lower()}{title[1:]}", "bold cyan", width=screen.width)
        yield from _effects(effects, screen)
    if changes.effects:
        yield Line()
        yield Line(f"plan {changes.plan}")


def answer(preview: Preview) -> str:
    """Return whether the VM can go, in a sentence or two."""
    findings = preview.changes.findings
    errors = sum(finding.forbids for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING and not finding.waived for finding in findings)
    if errors:
        return f"It cannot go, for {counted(errors, 'reason')}. Nothing was touched."
    if doubtful := doubts(preview.changes):
        deeds = counted(len(preview.changes.effects), "change") if preview.changes.effects else "Nothing to change"
        return f"It can go. {deeds}{_and_warnings(warnings)}; whether a key admits anybody is doubtful: {', '.join(doubtful)}."
    reached = f"it is reached by key as `{one_line(preview.login)}`" if preview.login else "it is reached by key"
    effects = len(preview.changes.effects)
    if not effects:
        return f"It can go as it is: nothing to change{_and_warnings(warnings)}; {reached} on a DHCP address."
    return f"It can go. {counted(effects, 'change')}{_and_warnings(warnings)}; afterwards {reached} on a DHCP address."


def _and_warnings(count: int) -> str:
    return f", {counted(count, 'warning')}" if count else ""


# The summary


def _summary(preview: Preview, screen: Screen) -> Iterator[Line]:
    found = summary(preview.changes)
    if found.packages_removed:
        yield from wrapped("  remove   ", _names(found.packages_removed), width=screen.width)
    if found.removed:
        told = [f"{len(group.paths)} {group.noun}" for group in found.removed]
        yield from wrapped("  remove   ", ", ".join(told), width=screen.width)
    for change in found.installs:
        yield from wrapped("  install  ", installed(change), width=screen.width)
    if found.changed:
        yield from wrapped("  change   ", _paths(found.changed, screen), width=screen.width)
    if found.added:
        yield from wrapped("  add      ", _paths(found.added, screen), width=screen.width)
    for layout in found.layout:
        yield from wrapped("  disk     ", layout_words(layout), width=screen.width)
    for what, whys in found.rebuilds:
        yield from wrapped("  rebuild  ", f"{what.value}, because it {'; and '.join(whys)}", width=screen.width)
    if preview.read_bytes is not None:
        yield from wrapped(
            "  read     ", f"at most {size(preview.read_bytes)} of {size(preview.layout.disk_size)}", width=screen.width
        )


def installed(change: PackageChange, most: int = 4) -> str:
    """Return what is installed, with its size and where it comes from; of more packages than `most` only the first are named."""
    detail = [counted(len(change.install), "package")]
    detail += [size(change.download_bytes)] if change.download_bytes else []
    detail += [f"from {one_line(change.origin)}"] if change.origin else []
    return f"{_names(change.install, most)} ({', '.join(detail)})"


def _names(packages: Sequence[Package], most: int = 4) -> str:
    named = [one_line(f"{package.name} {package.version}") for package in packages[:most]]
    return ", ".join(named) + (f" and {len(packages) - most} more" if len(packages) > most else "")


def _paths(paths: Sequence[str], screen: Screen, most: int = 12) -> str:
    most = most if screen.fold else len(paths)
    return ", ".join(map(one_line, paths[:most])) + (f", {len(paths) - most} more" if len(paths) > most else "")


# What will not be as it was


def _findings(findings: Sequence[Finding], screen: Screen) -> Iterator[Line]:
    order = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTE: 2}
    if findings:
        yield Line()
    for finding in sorted(findings, key=lambda finding: (finding.waived, order[finding.severity])):
        style = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}[finding.severity]
        word, style = ("waived", "dim") if finding.waived else (finding.severity.value, style)
        told = shown(hidden.sentence(finding.text))
        yield from wrapped(f"  {word:8}{finding.code:10}", told, style, width=screen.width)
        if finding.remedy:
            yield from wrapped(" " * 20, shown(hidden.sentence(finding.remedy)), width=screen.width)


def _data_disks(preview: Preview, screen: Screen) -> Iterator[Line]:
    found = data_disks(preview)
    if found:
        yield Line()
        yield from wrapped("", f"{LEFT_OUT} {SAY_SO}", width=screen.width)
    for disk in found:
        yield from wrapped("  ", disk.words, width=screen.width)


def _facts(facts: Sequence[Fact], screen: Screen) -> Iterator[Line]:
    """A fact of one line stands behind its name, one of several below it, as it is."""
    if not facts:
        return
    yield Line()
    for fact in facts:
        text = shown(hidden.sentence(fact.text)).rstrip("\n")
        if "\n" not in text:
            yield from wrapped(f"{one_line(fact.name)}: ", text, width=screen.width)
            continue
        yield Line(f"{one_line(fact.name)}:")
        for line in text.split("\n"):
            yield from wrapped("  " + " " * (len(line) - len(line.lstrip(" "))), line.lstrip(" "), width=screen.width)
    yield Line("(kept: the result of `vm --output json` has it)", "dim")


# What is done, remediation by remediation


def _effects(effects: Sequence[Effect], screen: Screen) -> Iterator[Line]:
    told = without_folders(effects) if screen.fold else list(effects)
    for (kind, why), found in groupby(told, key=lambda effect: (_alike(effect), effect.why)):
        alike = list(found)
        most = len(alike) if not screen.fold or len(alike) <= ALIKE + 2 or not kind else ALIKE
        for number, effect in enumerate(alike[:most]):
            yield from _effect(effect, screen, "for the same reason" if number else f"because it {why}")
        if rest := alike[most:]:
            yield from wrapped("  … ", _more(kind, rest, effects), "dim", width=screen.width)


def without_folders(effects: Sequence[Effect]) -> list[Effect]:
    """Leave out the plain folders that a new path needs: it tells of them already."""
    new = [effect.path for effect in effects if isinstance(effect, Edit)]

    def needless(effect: Effect) -> bool:
        match effect:
            case Edit(path=path, before=None, after=Folder(mode=0o755, uid=0, gid=0)):
                return any(other.startswith(path + "/") for other in new)
        return False

    return [effect for effect in effects if not needless(effect)]


def _alike(effect: Effect) -> str:
    """What effects that can be folded together have in common; "" for what is always told by itself."""
    match effect:
        case Removal():
            return "removed"
        case Edit(before=None):
            return "added"
        case Edit():
            return "edited"
    return ""


def _more(kind: str, rest: Sequence[Effect], all_: Sequence[Effect]) -> str:
    paths = tuple(effect.path for effect in rest if isinstance(effect, Edit | Removal))
    places = [f"{count} in {one_line(folder)}" for folder, count in enclosing(paths)]
    told = ", ".join(places[:3]) + (f" and {counted(len(places) - 3, 'other folder')}" if len(places) > 3 else "")
    return f"{len(rest)} more {kind} for the same reason: {told}  (--diff {all_[0].by} shows them)"


def _effect(effect: Effect, screen: Screen, because: str) -> Iterator[Line]:
    match effect:
        case Removal(path=path, inside=inside):
            more = f" and {entries(inside)} in it" if inside else ""
            yield from _reasoned(f"remove {one_line(path)}{more}", because, screen)
        case Edit(path=path, before=before, after=after):
            made = {Folder: "folder ", Link: "link   ", File: "add    "}[type(after)] if before is None else "edit   "
            yield from _reasoned(f"{made}{one_line(path)}", because, screen)
            yield from _difference(effect, screen)
        case PackageEdit(change=change):
            for word, packages in (("remove", change.remove), ("install", change.install)):
                if packages:
                    yield from _reasoned(f"{word} {counted(len(packages), 'package')}", because, screen)
                    named = ", ".join(one_line(f"{p.name} {p.version}") for p in packages)
                    yield from wrapped(" " * 9, named, width=screen.width)
        case LayoutEdit(change=layout):
            yield from _reasoned(layout_words(layout), because, screen)
        case RebuildRequest(what=what):
            yield from _reasoned(f"rebuild the {what.value}", because, screen)


def entries(count: int) -> str:
    """Return how much is in a folder, in words."""
    return f"{MOST_COUNTED:,} or more entries" if count >= MOST_COUNTED else counted(count, "entry")


def _difference(edit: Edit, screen: Screen) -> Iterator[Line]:
    found = difference(edit.path, edit.before, edit.after)
    for note in found.notes:
        yield Line(f"    {note}", "magenta")
    most = len(found.lines) if not screen.fold or len(found.lines) <= DIFF + 5 else DIFF
    for text in found.lines[:most]:
        style = {"+": "green", "-": "red", "@": "magenta"}.get(text[:1], "")
        cut = text if not screen.fold or len(text) <= LONG else f"{text[:LONG]}… {len(text) - LONG} more characters"
        yield Line(f"    {cut}", style)
    if most < len(found.lines):
        yield Line(f"    … {len(found.lines) - most} more lines  (--diff {edit.by} shows them)", "dim")


def _reasoned(what: str, because: str, screen: Screen) -> Iterator[Line]:
    """The reason beside the deed where both fit on a line, below it where not."""
    line = f"  {what:<{REASON_AT - 2}} {because}"
    if len(line) <= screen.width:
        yield Line(line)
    else:
        yield Line(f"  {what}")
        yield from wrapped(" " * 9, because, width=screen.width)
