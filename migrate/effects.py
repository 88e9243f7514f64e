"""What a remediation would do to a guest, as values: shown by the preview, performed when applied, kept in the report."""

import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum

from pydantic import JsonValue

from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Folder,
    Kind,
    LayoutChange,
    Link,
    MakeSwapFile,
    PackageChange,
    Rebuild,
)


@dataclass(frozen=True, slots=True)
class Edit:
    """A path gets a new content, mode or target. `before` is None where there was nothing."""

    by: str
    why: str
    path: str
    before: Entry | None
    after: Entry


@dataclass(frozen=True, slots=True)
class Removal:
    """A path goes, of a folder all that is in it. `inside` counts its entries, up to `migrate.draft.MOST_COUNTED`."""

    by: str
    why: str
    path: str
    kind: Kind
    inside: int = 0


@dataclass(frozen=True, slots=True)
class PackageEdit:
    by: str
    why: str
    change: PackageChange


@dataclass(frozen=True, slots=True)
class LayoutEdit:
    by: str
    why: str
    change: LayoutChange


@dataclass(frozen=True, slots=True)
class RebuildRequest:
    """Asked for any number of times, done once, at the end."""

    by: str
    why: str
    what: Rebuild


Effect = Edit | Removal | PackageEdit | LayoutEdit | RebuildRequest


class Severity(Enum):
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"
    """The guest cannot be moved as it is: the pipeline refuses."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator must know. `code` is stable ("NET-012"); `text` holds the evidence; `waived` where the operator accepts it."""

    by: str
    code: str
    severity: Severity
    text: str
    remedy: str | None = None
    waived: bool = False

    @property
    def forbids(self) -> bool:
        """Whether the guest cannot be moved because of it."""
        return self.severity is Severity.ERROR and not self.waived


@dataclass(frozen=True, slots=True)
class Fact:
    """What the guest was before, kept for the report ("network before: …"); `data` is the same for programs, where they need more."""

    by: str
    name: str
    text: str
    data: JsonValue = field(default=None, hash=False)


@dataclass(frozen=True, slots=True)
class Changes:
    """All that a set of remediations does, or would do, in order."""

    effects: tuple[Effect, ...] = ()
    findings: tuple[Finding, ...] = ()
    facts: tuple[Fact, ...] = field(default=())

    @property
    def digest(self) -> str:
        """SHA-256 of the effects with all contents: the same guest gives the same one."""
        text = json.dumps([_identity(effect) for effect in self.effects], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def plan(self) -> str:
        """The digest's first eight digits, for people."""
        return self.digest[:8]


def _identity(effect: Effect) -> dict[str, object]:
    """Return what makes two effects the same; contents by their SHA-256."""
    head: dict[str, object] = {"by": effect.by, "why": effect.why}
    match effect:
        case Edit(path=path, before=before, after=after):
            return head | {"effect": "edit", "path": path, "before": _content(before), "after": _content(after)}
        case Removal(path=path, kind=kind, inside=inside):
            return head | {"effect": "remove", "path": path, "kind": kind.value, "inside": inside}
        case PackageEdit(change=packages):
            return head | {
                "effect": "packages",
                "install": [{"name": p.name, "version": p.version, "arch": p.arch} for p in packages.install],
                "remove": [{"name": p.name, "version": p.version, "arch": p.arch} for p in packages.remove],
                "origin": packages.origin,
                "download_bytes": packages.download_bytes,
            }
        case LayoutEdit(change=change):
            return head | _layout(change)
        case RebuildRequest(what=what):
            return head | {"effect": "rebuild", "what": what.value}


def _layout(change: LayoutChange) -> dict[str, object]:
    match change:
        case DropPartition(disk=disk, partition=partition):
            return {"effect": "drop partition", "disk": disk, "partition": partition}
        case MakeSwapFile(path=path, size=size):
            return {"effect": "make swap file", "path": path, "bytes": size}


def _content(entry: Entry | None) -> object:
    match entry:
        case None:
            return None
        case File(content=content, mode=mode, uid=uid, gid=gid):
            digest = hashlib.sha256(content).hexdigest()
            return {
                "kind": "file",
                "mode": f"{mode:04o}",
                "uid": uid,
                "gid": gid,
                "bytes": len(content),
                "sha256": digest,
            }
        case Folder(mode=mode, uid=uid, gid=gid):
            return {"kind": "folder", "mode": f"{mode:04o}", "uid": uid, "gid": gid}
        case Link(target=target):
            return {"kind": "link", "target": target}
