"""What an operator approved: a plan's hash as it was typed, or the preview's JSON, which also tells what has changed since."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from migrate.errors import UsageError
from migrate.preview.values import (
    ChangesValue,
    DropPartitionValue,
    EditValue,
    EffectValue,
    MakeSwapFileValue,
    PackagesValue,
    PackageValue,
    PreviewValue,
    RebuildValue,
    RemovalValue,
)
from migrate.text import one_line

PLAN = re.compile(r"[0-9a-f]{8,64}")
MOST_BYTES = 256 << 20
MOST_TOLD = 20


@dataclass(frozen=True, slots=True)
class Approval:
    """`plan` is the first digits of the digest, eight at least; `changes` are those that were read, None where only the hash was given."""

    plan: str
    changes: ChangesValue | None = None

    def holds(self, now: ChangesValue) -> bool:
        """Whether what is to be done is what was approved."""
        return now.digest.startswith(self.plan)

    def differences(self, now: ChangesValue) -> tuple[str, ...]:
        """Return in words what has changed since, where the preview was given."""
        if self.changes is None:
            return ()
        found = tuple(differences(self.changes, now))
        return found or ("what is shown is the same: the content of a file that is kept secret differs",)


def approval(words: str) -> Approval:
    """Return what is meant by the words behind `--approve`: a plan, or a file with the JSON of a preview. Raise UsageError."""
    if PLAN.fullmatch(words):
        return Approval(words)
    path = Path(words)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"--approve {words}: the file is larger than any preview", hint=_HINT)
        value = PreviewValue.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(
            f"--approve {one_line(words)}: neither a plan, which is 8 to 64 hexadecimal digits, nor a file: {error.strerror}",
            hint=_HINT,
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"--approve {one_line(words)}: this is no preview of this version's: {place}: {first['msg']}", hint=_HINT
        ) from error
    if not value.can_go:
        raise UsageError(
            f"--approve {one_line(words)}: the VM of this preview cannot go, so there is nothing to approve", hint=_HINT
        )
    return Approval(value.changes.digest, value.changes)


_HINT = "`magalu-migrate preview … --output json > preview.json` writes one, and each preview ends with its plan."


def differences(approved: ChangesValue, now: ChangesValue) -> Iterator[str]:
    """Yield in words how the plan differs from the one that was approved, in the order of what is done."""
    old, new = _by_deed(approved.effects), _by_deed(now.effects)
    for deed, effects in new.items():
        if deed not in old:
            yield f"new: {deed} ({effects[0].by})"
        elif old[deed] != effects:
            yield from _changed(deed, old[deed], effects)
    for deed, effects in old.items():
        if deed not in new:
            yield f"no longer: {deed} ({effects[0].by})"
    known = {(finding.code, finding.text) for finding in approved.findings}
    for finding in now.findings:
        if (finding.code, finding.text) not in known:
            yield f"found since: {finding.code} {finding.text}"


def _by_deed(effects: Sequence[EffectValue]) -> dict[str, list[EffectValue]]:
    found: dict[str, list[EffectValue]] = {}
    for effect in effects:
        found.setdefault(_deed(effect), []).append(effect)
    return found


def _deed(effect: EffectValue) -> str:
    """What is done, without how: two plans' effects are compared where this is the same."""
    match effect:
        case EditValue(path=path):
            return f"write {one_line(path)}"
        case RemovalValue(path=path):
            return f"remove {one_line(path)}"
        case PackagesValue(install=install):
            return f"{'install' if install else 'remove'} packages"
        case DropPartitionValue(disk=disk, partition=partition):
            return f"delete partition {partition} of disk {disk + 1}"
        case MakeSwapFileValue(path=path):
            return f"make the swap file {one_line(path)}"
        case RebuildValue(what=what):
            return f"rebuild the {what}"


def _changed(deed: str, old: Sequence[EffectValue], new: Sequence[EffectValue]) -> Iterator[str]:
    packages = [each for each in old if isinstance(each, PackagesValue)]
    if packages:
        yield from _packages(packages, [each for each in new if isinstance(each, PackagesValue)])
        return
    by = ", ".join(dict.fromkeys(effect.by for effect in new))
    was, now = _edits(old), _edits(new)
    if was and (was[0].before, _taken(was[0])) != (now[0].before, _taken(now[0])):
        yield f"{deed}: what the guest has there is not what it was"
    elif [edit.diff for edit in was] != [edit.diff for edit in now]:
        yield f"{deed}: another change than the one that was shown ({by})"
    else:
        yield f"{deed}: in another way, or for another reason ({by})"


def _edits(effects: Sequence[EffectValue]) -> list[EditValue]:
    return [effect for effect in effects if isinstance(effect, EditValue)]


def _taken(edit: EditValue) -> list[str]:
    """What the diff shows of the old text."""
    return [line for line in edit.diff if line.startswith(("-", " ", "was ", "replaces "))]


def _packages(old: Sequence[PackagesValue], new: Sequence[PackagesValue]) -> Iterator[str]:
    for word, before, after in (
        ("install", _versions(each.install for each in old), _versions(each.install for each in new)),
        ("remove", _versions(each.remove for each in old), _versions(each.remove for each in new)),
    ):
        for name, version in after.items():
            if name not in before:
                yield f"new: {word} {name} {version}"
            elif before[name] != version:
                yield f"{word} {name}: version {version}, not {before[name]}"
        yield from (f"no longer: {word} {name} {version}" for name, version in before.items() if name not in after)
    origins = [one_line(each.origin) for each in old], [one_line(each.origin) for each in new]
    if origins[0] != origins[1]:
        yield f"packages come from {', '.join(origins[1])}, not from {', '.join(origins[0])}"


def _versions(changes: Iterator[tuple[PackageValue, ...]]) -> dict[str, str]:
    return {one_line(package.name): one_line(package.version) for packages in changes for package in packages}
