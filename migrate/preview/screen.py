"""The preview as a person reads it: the answer first, then the evidence, one fact a line."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from migrate.effects import (
    Changes,
    Edit,
    Effect,
    Finding,
    LayoutEdit,
    PackageEdit,
    RebuildRequest,
    Removal,
    Severity,
)
from migrate.guest import DropPartition, File, LayoutChange, Link, MakeSwapFile, Package, Rebuild
from migrate.lines import WIDTH, Line, wrapped
from migrate.preview.preview import Preview, head
from migrate.remediation import Remediation
from migrate.text import counted, diff, shown, size


def lines(preview: Preview, remediations: Sequence[Remediation]) -> Iterator[Line]:
    """Yield the whole preview: head, answer, summary, findings, facts, then each remediation's diffs with their reasons."""
    changes = preview.changes
    yield Line(head(preview), "bold")
    yield Line()
    yield Line(_answer(preview), "bold green" if preview.can_go else "bold red")
    if changes.effects:
        yield Line()
        yield from _summary(changes)
    if changes.findings:
        yield Line()
        for finding in changes.findings:
            yield from _finding(finding)
    if changes.facts:
        yield Line()
        for fact in changes.facts:
            yield from wrapped(f"{fact.name}: ", shown(fact.text))
        yield Line("(the result of `vm --output json` keeps this)", "dim")
    titles = {remediation.name: remediation.title for remediation in remediations}
    for by, effects in groupby(changes.effects, key=lambda effect: effect.by):
        yield Line()
        title = titles.get(by, "")
        yield Line(f"{by}: {title[:1].lower()}{title[1:]}", "bold cyan")
        yield from _effects(list(effects))
    if changes.effects:
        yield Line()
        yield Line(f"plan {changes.plan}")


def _answer(preview: Preview) -> str:
    findings = preview.changes.findings
    errors = sum(finding.forbids for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING and not finding.waived for finding in findings)
    if errors:
        return f"It cannot go, for {counted(errors, 'reason')}. Nothing was touched."
    reached = f"it is reached by key as `{preview.login}`" if preview.login else "it is reached by key"
    effects = len(preview.changes.effects)
    if not effects:
        return f"It can go as it is: nothing to change{_and_warnings(warnings)}; {reached} on a DHCP address."
    return f"It can go. {counted(effects, 'change')}{_and_warnings(warnings)}; afterwards {reached} on a DHCP address."


def _and_warnings(count: int) -> str:
    return f", {counted(count, 'warning')}" if count else ""


def _summary(changes: Changes) -> Iterator[Line]:
    removed = [p for e in changes.effects if isinstance(e, PackageEdit) for p in e.change.remove]
    gone = [e for e in changes.effects if isinstance(e, Removal)]
    if removed or gone:
        words = [_names(removed)] if removed else []
        words += [f"{len(gone)} files and folders" if len(gone) > 1 else "1 file"] if gone else []
        yield from wrapped("  remove   ", " and ".join(words))
    for effect in changes.effects:
        if isinstance(effect, PackageEdit) and effect.change.install:
            change = effect.change
            detail = [counted(len(change.install), "package")]
            detail += [size(change.download_bytes)] if change.download_bytes else []
            detail += [f"from {change.origin}"] if change.origin else []
            yield from wrapped("  install  ", f"{_names(change.install)} ({', '.join(detail)})")
    edited = list(dict.fromkeys(e.path for e in changes.effects if isinstance(e, Edit) and e.before is not None))
    made = list(
        dict.fromkeys(
            e.path
            for e in changes.effects
            if isinstance(e, Edit) and e.before is None and isinstance(e.after, File | Link)
        )
    )
    made = [path for path in made if path not in edited]
    if edited:
        yield from wrapped("  change   ", _paths(edited))
    if made:
        yield from wrapped("  add      ", _paths(made))
    for effect in changes.effects:
        if isinstance(effect, LayoutEdit):
            yield from wrapped("  disk     ", _layout_words(effect.change))
    asked: dict[Rebuild, str] = {}
    for effect in changes.effects:
        if isinstance(effect, RebuildRequest):
            asked.setdefault(effect.what, effect.why)
    for what, why in asked.items():
        yield from wrapped("  rebuild  ", f"the {what.value}, because it {why}")


def _names(packages: Sequence[Package]) -> str:
    named = [f"{package.name} {package.version}" for package in packages[:4]]
    return ", ".join(named) + (f" and {len(packages) - 4} more" if len(packages) > 4 else "")


def _paths(paths: Sequence[str], most: int = 12) -> str:
    return ", ".join(map(shown, paths[:most])) + (f", {len(paths) - most} more" if len(paths) > most else "")


def _finding(finding: Finding) -> Iterator[Line]:
    style = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}[finding.severity]
    head, style = ("waived", "dim") if finding.waived else (finding.severity.value, style)
    text = shown(finding.text) + (f" {shown(finding.remedy)}" if finding.remedy else "")
    yield from wrapped(f"  {head:8}{finding.code:10}", text, style)


def _effects(effects: Sequence[Effect]) -> Iterator[Line]:
    folders = [e.path for e in effects if isinstance(e, Removal) and e.kind.value == "folder"]
    for effect in effects:
        match effect:
            case Removal(path=path) if any(path.startswith(folder + "/") for folder in folders):
                continue  # said with its folder
            case Removal(path=path, why=why):
                inside = sum(isinstance(e, Removal) and e.path.startswith(path + "/") for e in effects)
                more = f" and {counted(inside, 'entry')} in it" if inside else ""
                yield from _reasoned(f"remove {shown(path)}{more}", why)
            case Edit(path=path, before=before, after=after, why=why):
                yield from _reasoned(f"{'add   ' if before is None else 'edit  '} {shown(path)}", why)
                for text in diff(path, before, after):
                    style = {"+": "green", "-": "red", "@": "magenta"}.get(text[:1], "")
                    yield Line(f"  {text}", style)
            case PackageEdit(change=change, why=why):
                if change.remove:
                    yield from _reasoned(f"remove {counted(len(change.remove), 'package')}", why)
                    yield from wrapped("         ", ", ".join(f"{p.name} {p.version}" for p in change.remove))
                if change.install:
                    yield from _reasoned(f"install {counted(len(change.install), 'package')}", why)
                    yield from wrapped("         ", ", ".join(f"{p.name} {p.version}" for p in change.install))
            case LayoutEdit(change=layout, why=why):
                yield from _reasoned(_layout_words(layout), why)
            case RebuildRequest(what=what, why=why):
                yield from _reasoned(f"rebuild the {what.value}", why)


def _layout_words(change: LayoutChange) -> str:
    match change:
        case DropPartition(disk=disk, partition=partition):
            return f"delete partition {partition} of disk {disk + 1}"
        case MakeSwapFile(path=path, size=count):
            return f"make the swap file {path} of {size(count)}"


def _reasoned(what: str, why: str) -> Iterator[Line]:
    """The reason beside the deed where both fit on a line, below it where not."""
    line = f"  {what:<48} because it {why}"
    if len(line) <= WIDTH:
        yield Line(line)
    else:
        yield Line(f"  {what}")
        yield from wrapped("         ", f"because it {why}")
