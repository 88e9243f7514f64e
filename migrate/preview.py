"""The preview as a person reads it: the answer first, then the evidence, one fact a line; and the same as JSON values."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from migrate.codes import Code
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
    effect_json,
)
from migrate.guest import DropPartition, File, Layout, LayoutChange, Link, MakeSwapFile, Os, Package, Rebuild
from migrate.remediation import Profile, Remediation
from migrate.source import Firmware, Vm
from migrate.text import counted, diff, shown, size

WIDTH = 118


@dataclass(frozen=True, slots=True)
class Preview:
    """What will be done to a VM, and what it is. `login` is the user whom the key will admit; `kernels` newest last."""

    vm: Vm
    os: Os
    layout: Layout
    kernels: tuple[str, ...]
    login: str | None
    changes: Changes

    @property
    def can_go(self) -> bool:
        return not any(finding.forbids for finding in self.changes.findings)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the screen; `style` only carries what the words already say."""

    text: str = ""
    style: str = ""


def lines(preview: Preview, remediations: Sequence[Remediation]) -> Iterator[Line]:
    """Yield the whole preview: head, answer, summary, findings, facts, then each remediation's diffs with their reasons."""
    changes = preview.changes
    yield Line(_head(preview), "bold")
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
            yield from _wrapped(f"{fact.name}: ", shown(fact.text))
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


def to_json(preview: Preview) -> dict[str, object]:
    """Return the preview as JSON values; `changes` has the same shape in the result of a migration."""
    layout = preview.layout
    return {
        "name": preview.vm.name,
        "origin": preview.vm.origin,
        "can_go": preview.can_go,
        "os": {
            "id": preview.os.id,
            "version": preview.os.version_id,
            "pretty": preview.os.pretty,
            "arch": preview.os.arch,
        },
        "firmware": layout.firmware.value,
        "disk_bytes": layout.disk_size,
        "kernels": list(preview.kernels),
        "login": preview.login,
        "filesystems": [
            {
                "device": fs.device,
                "type": fs.type,
                "bytes": fs.size,
                "uuid": fs.uuid,
                "label": fs.label,
                "mountpoint": fs.mountpoint,
            }
            for fs in layout.filesystems
        ],
        "changes": changes_json(preview.changes),
    }


def inventory(preview: Preview) -> Iterator[Line]:
    """Yield what a VM is, one fact a line."""
    yield Line(_head(preview), "bold")
    yield Line()
    vm = preview.vm
    facts = [
        ("system", f"{preview.os.pretty or preview.os.id} ({preview.os.arch})"),
        ("kernels", ", ".join(preview.kernels) or "none found"),
        ("firmware", preview.layout.firmware.value.upper()),
        ("processors", str(vm.vcpus or "not said")),
        ("memory", size(vm.memory_bytes) if vm.memory_bytes else "not said"),
        ("cards", ", ".join(f"{nic.name} {nic.mac or ''}".strip() for nic in vm.nics) or "not said"),
        ("disks", ", ".join(f"{disk.name} {size(disk.size)} {disk.format}" for disk in vm.disks)),
        ("partitions", {"dos": "MBR", "gpt": "GPT"}.get(preview.layout.table, preview.layout.table)),
    ]
    for name, text in facts:
        yield Line(f"  {name:<11} {shown(text)}")
    for fs in preview.layout.filesystems:
        place = f"on {fs.mountpoint}" if fs.mountpoint and fs.type != "swap" else ""
        words = [fs.device, fs.type, size(fs.size), place, fs.uuid or ""]
        yield Line(shown(f"  {'':<11} {words[0]:<22} {words[1]:<8} {words[2]:>9}  {words[3]:<14} {words[4]}").rstrip())
    if preview.login:
        yield Line(f"  {'login':<11} {shown(preview.login)}")


def inventory_json(preview: Preview) -> dict[str, object]:
    """Return what a VM is as JSON values."""
    vm = preview.vm
    values = {key: value for key, value in to_json(preview).items() if key not in ("changes", "can_go")}
    return values | {
        "vcpus": vm.vcpus,
        "memory_bytes": vm.memory_bytes,
        "nics": [{"name": nic.name, "mac": nic.mac} for nic in vm.nics],
        "disks": [{"name": disk.name, "bytes": disk.size, "format": disk.format} for disk in vm.disks],
    }


def listed(remediations: Sequence[Remediation]) -> Iterator[Line]:
    """Yield all remediations, with the profiles in which each is made without being asked for."""
    profiles = tuple(Profile)
    width = max(len(remediation.name) for remediation in remediations)
    heads = "  ".join(profile.value for profile in profiles)
    yield Line(f"{'':<{width}}  {heads}", "bold")
    for remediation in remediations:
        marks = "  ".join(
            f"{'yes' if profile in remediation.profiles else '-':<{len(profile.value)}}" for profile in profiles
        )
        yield Line(f"{remediation.name:<{width}}  {marks}  {remediation.title}")


def meaning(name: str, code: Code) -> Iterator[Line]:
    """Yield what a finding's code means, and what can be done about it."""
    yield Line(f"{name}: {code.title}", "bold cyan")
    yield Line()
    yield from _wrapped("", code.about)
    yield from _wrapped("", code.remedy)
    yield Line()
    yield from _wrapped("  severity ", _severity_words(name, code))
    for by in code.by:
        yield from _wrapped("  given by ", by)


def _severity_words(name: str, code: Code) -> str:
    match code.severity:
        case Severity.NOTE:
            return "note: nothing has to be done before the move"
        case Severity.WARNING:
            return f"warning: it is left to do; `vm --strict` stops at it, and --waive {name} accepts it"
        case Severity.ERROR if code.waivable:
            return f"error: the VM is refused. It may be accepted with --waive {name}, because {code.waivable}"
        case Severity.ERROR:
            return "error: the VM is refused, and this cannot be waived"


def explained(remediation: Remediation, codes: Mapping[str, Code]) -> Iterator[Line]:
    """Yield what a remediation does, why, on which guests, where we know it from, and what it may tell."""
    yield Line(f"{remediation.name}: {remediation.title[:1].lower()}{remediation.title[1:]}", "bold cyan")
    yield Line()
    yield from _wrapped("", remediation.about)
    if remediation.sources:
        yield Line()
        for source in remediation.sources:
            yield from _wrapped("  source   ", source)
    yield Line()
    yield from _wrapped("  profiles ", ", ".join(p.value for p in Profile if p in remediation.profiles) or "none")
    if missing := [profile.value for profile in Profile if profile not in remediation.profiles]:
        yield from _wrapped("           ", f"in {' and '.join(missing)} only with --ask {remediation.name}")
    for name, code in codes.items():
        if remediation.name in code.by:
            yield from _wrapped(f"  {code.severity.value:<8} ", f"{name}  {code.title}")


def changes_json(changes: Changes) -> dict[str, object]:
    """Return changes as JSON values: effects with their diffs, findings, facts and the plan's hash."""
    return {
        "plan": changes.plan,
        "effects": [_effect_with_diff(effect) for effect in changes.effects],
        "findings": [
            {
                "code": f.code,
                "severity": f.severity.value,
                "waived": f.waived,
                "by": f.by,
                "text": f.text,
                "remedy": f.remedy,
            }
            for f in changes.findings
        ],
        "facts": [{"name": fact.name, "text": fact.text, "by": fact.by} for fact in changes.facts],
    }


def _effect_with_diff(effect: Effect) -> dict[str, object]:
    values = effect_json(effect)
    if isinstance(effect, Edit):
        values["diff"] = diff(effect.path, effect.before, effect.after)
    return values


def _head(preview: Preview) -> str:
    parts = [
        preview.vm.name,
        preview.os.pretty or preview.os.id or "unknown system",
        "UEFI" if preview.layout.firmware is Firmware.UEFI else "BIOS",
        size(preview.layout.disk_size),
    ]
    if preview.kernels:
        parts.append(f"kernel {preview.kernels[-1]}")
    if preview.vm.origin != "file":
        parts.append(f"from {preview.vm.origin}")
    return shown(" · ".join(parts))


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
        yield from _wrapped("  remove   ", " and ".join(words))
    for effect in changes.effects:
        if isinstance(effect, PackageEdit) and effect.change.install:
            change = effect.change
            detail = [counted(len(change.install), "package")]
            detail += [size(change.download_bytes)] if change.download_bytes else []
            detail += [f"from {change.origin}"] if change.origin else []
            yield from _wrapped("  install  ", f"{_names(change.install)} ({', '.join(detail)})")
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
        yield from _wrapped("  change   ", _paths(edited))
    if made:
        yield from _wrapped("  add      ", _paths(made))
    for effect in changes.effects:
        if isinstance(effect, LayoutEdit):
            yield from _wrapped("  disk     ", _layout_words(effect.change))
    asked: dict[Rebuild, str] = {}
    for effect in changes.effects:
        if isinstance(effect, RebuildRequest):
            asked.setdefault(effect.what, effect.why)
    for what, why in asked.items():
        yield from _wrapped("  rebuild  ", f"the {what.value}, because it {why}")


def _names(packages: Sequence[Package]) -> str:
    named = [f"{package.name} {package.version}" for package in packages[:4]]
    return ", ".join(named) + (f" and {len(packages) - 4} more" if len(packages) > 4 else "")


def _paths(paths: Sequence[str], most: int = 12) -> str:
    return ", ".join(map(shown, paths[:most])) + (f", {len(paths) - most} more" if len(paths) > most else "")


def _finding(finding: Finding) -> Iterator[Line]:
    style = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "dim"}[finding.severity]
    head, style = ("waived", "dim") if finding.waived else (finding.severity.value, style)
    text = shown(finding.text) + (f" {shown(finding.remedy)}" if finding.remedy else "")
    yield from _wrapped(f"  {head:8}{finding.code:10}", text, style)


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
                    yield from _wrapped("         ", ", ".join(f"{p.name} {p.version}" for p in change.remove))
                if change.install:
                    yield from _reasoned(f"install {counted(len(change.install), 'package')}", why)
                    yield from _wrapped("         ", ", ".join(f"{p.name} {p.version}" for p in change.install))
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
        yield from _wrapped("         ", f"because it {why}")


def _wrapped(head: str, text: str, style: str = "") -> Iterator[Line]:
    indent = " " * min(len(head), 20)
    for line in textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent, break_on_hyphens=False) or [
        head
    ]:
        yield Line(line, style)
