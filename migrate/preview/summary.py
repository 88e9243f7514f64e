"""A plan in a few lines: what goes, what comes, what changes, what is built anew."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.effects import Changes, Edit, LayoutEdit, PackageEdit, RebuildRequest, Removal
from migrate.guest import (
    DropPartition,
    Folder,
    Kind,
    LayoutChange,
    MakeSwapFile,
    Package,
    PackageChange,
    Rebuild,
)
from migrate.text import one_line, size

# What a file that goes is, by where it lies: the first that fits.
KINDS = (
    ("key", "keys", re.compile(r"/ssh_host_|/authorized_keys|/id_[a-z0-9]+$|\.(?:key|pem|p12)$|/waagent/.*\.prv$")),
    ("unit", "units", re.compile(r"/systemd/(?:system|user)/|^/etc/(?:init\.d|init|rc\d\.d|rc\.d)/")),
    ("log", "logs", re.compile(r"^/var/log/")),
    ("lease", "leases", re.compile(r"\.leases?$|^/var/lib/(?:dhcp|dhclient|wicked)/|^/run/systemd/netif/")),
    ("configuration file", "configuration files", re.compile(r"^/etc/|^/boot/")),
    ("state file", "state files", re.compile(r"^/var/|^/run/")),
    ("program file", "program files", re.compile(r"^/(?:usr|opt|bin|sbin|lib|lib64|srv)/")),
    ("file in home folders", "files in home folders", re.compile(r"^/(?:home|root)/")),
    ("file", "files", re.compile(r"")),
)
FOLDER = ("folder", "folders")

DOUBTS = ("SSH-002", "SSH-008", "SSH-012", "CLOUD-002")
"""Findings after which it is not known whether the instance's key admits anybody."""


@dataclass(frozen=True, slots=True)
class Group:
    """Paths of one kind. `noun` is the kind, in the number that fits."""

    kind: str
    noun: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """Each path once, however many remediations write it. `rebuilds` with the reasons of all who asked."""

    packages_removed: tuple[Package, ...]
    removed: tuple[Group, ...]
    installs: tuple[PackageChange, ...]
    changed: tuple[str, ...]
    added: tuple[str, ...]
    layout: tuple[LayoutChange, ...]
    rebuilds: tuple[tuple[Rebuild, tuple[str, ...]], ...]

    @property
    def download_bytes(self) -> int:
        return sum(change.download_bytes for change in self.installs)


def summary(changes: Changes) -> Summary:
    """Return what the changes come to."""
    first: dict[str, Edit | Removal] = {}
    last: dict[str, Edit | Removal] = {}
    packages: list[PackageChange] = []
    layout: list[LayoutChange] = []
    rebuilds: dict[Rebuild, dict[str, None]] = {}
    for effect in changes.effects:
        match effect:
            case Edit(path=path) | Removal(path=path):
                first.setdefault(path, effect)
                last[path] = effect
            case PackageEdit(change=change):
                packages.append(change)
            case LayoutEdit(change=change):
                layout.append(change)
            case RebuildRequest(what=what, why=why):
                rebuilds.setdefault(what, {})[why] = None
    written = {path: effect for path, effect in last.items() if isinstance(effect, Edit)}
    new = {path for path in written if isinstance(effect := first[path], Edit) and effect.before is None}
    return Summary(
        tuple(package for change in packages for package in change.remove),
        _groups([effect for effect in last.values() if isinstance(effect, Removal)]),
        tuple(change for change in packages if change.install),
        tuple(path for path in written if path not in new),
        tuple(path for path, effect in written.items() if path in new and not isinstance(effect.after, Folder)),
        tuple(layout),
        tuple((what, tuple(whys)) for what, whys in rebuilds.items()),
    )


def doubts(changes: Changes) -> tuple[str, ...]:
    """Return the codes that put it in doubt whether a key admits anybody, each once, in the order of DOUBTS."""
    told = {finding.code for finding in changes.findings}
    return tuple(code for code in DOUBTS if code in told)


def _groups(removals: list[Removal]) -> tuple[Group, ...]:
    found: dict[tuple[str, str], list[str]] = {}
    for removal in removals:
        found.setdefault(_kind(removal), []).append(removal.path)
    order = [*((one, many) for one, many, _ in KINDS), FOLDER]
    return tuple(
        Group(one, one if len(found[one, many]) == 1 else many, tuple(found[one, many]))
        for one, many in order
        if (one, many) in found
    )


def _kind(removal: Removal) -> tuple[str, str]:
    if removal.kind is Kind.FOLDER:
        return FOLDER
    return next((one, many) for one, many, place in KINDS if place.search(removal.path))


def layout_words(change: LayoutChange) -> str:
    """Return what happens to a disk, in words."""
    match change:
        case DropPartition(disk=disk, partition=partition):
            return f"delete partition {partition} of disk {disk + 1}"
        case MakeSwapFile(path=path, size=count):
            return f"make the swap file {one_line(path)} of {size(count)}"


def enclosing(paths: tuple[str, ...], depth: int = 3) -> tuple[tuple[str, int], ...]:
    """Return the folders that hold the paths, at most `depth` parts deep, with how many are in each; the fullest first."""
    counts: dict[str, int] = {}
    for path in paths:
        folder = "/".join(str(PurePosixPath(path).parent).split("/")[: depth + 1]) or "/"
        counts[folder] = counts.get(folder, 0) + 1
    return tuple(sorted(counts.items(), key=lambda found: (-found[1], found[0])))
