"""Alpine's package database, and what goes when something is taken out of its world. Pure text in, values out.

Alpine keeps a list of what was asked for (/etc/apk/world); what is installed is that and what it needs, so apk itself takes with a package
whatever only that needed. Sources: apk-world(5), apk-package(5), the Alpine wiki's "Apk spec".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import PackagesUnavailable
from migrate.guest import File, Kind, Package, PackageChange
from migrate.guests.paths import Files, resolved

INSTALLED = "/lib/apk/db/installed"
WORLD = "/etc/apk/world"

ARCH = {"x86_64": "amd64", "aarch64": "arm64", "x86": "i386", "noarch": "all"}

PROTECTED = frozenset({"alpine-baselayout", "alpine-base", "apk-tools", "busybox", "musl", "openrc"})
KERNELS = re.compile(r"linux-(lts|virt|rpi|edge|openpax|grsec|vanilla)")


@dataclass(frozen=True, slots=True)
class Stanza:
    """A package of the database: `needs` and `provides` are bare names, `triggers` what it is installed for together with (install_if)."""

    package: Package
    needs: frozenset[str]
    conflicts: frozenset[str]
    provides: frozenset[str]
    triggers: frozenset[str]
    files: frozenset[str]


def stanzas(text: str) -> Iterator[Stanza]:
    for record in text.split("\n\n"):
        lines = [line.partition(":") for line in record.split("\n") if line[1:2] == ":"]
        fields = {name: value for name, _, value in lines if name not in ("F", "R")}
        if "P" not in fields:
            continue
        name = fields["P"]
        words = fields.get("D", "").split()
        yield Stanza(
            Package(name, fields.get("V", ""), ARCH.get(fields.get("A", ""), fields.get("A", "")), record.strip("\n")),
            frozenset(_bare(word) for word in words if not word.startswith("!")),
            frozenset(_bare(word[1:]) for word in words if word.startswith("!")),
            frozenset({name, *map(_bare, fields.get("p", "").split())}),
            frozenset(map(_bare, fields.get("i", "").split())),
            frozenset(_files(lines)),
        )


def _files(lines: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    folder = ""
    for name, _, value in lines:
        if name == "F":
            folder = value
        elif name == "R":
            yield f"/{folder}/{value}" if folder else f"/{value}"


def _bare(word: str) -> str:
    """ "so:libc.musl-x86_64.so.1=1", "openssl>=3", "busybox@edge" → the name alone."""
    return re.split(r"[<>=~@]", word, maxsplit=1)[0]


class World:
    """What can be done with Alpine's packages from here: they can be removed. Its repositories are not read by us."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        """Return what goes. Raise PackagesUnavailable where something would have to be installed."""
        if wanted := [name for name in install if name not in installed]:
            raise PackagesUnavailable(
                f"{', '.join(wanted)} cannot be installed from here: Alpine's repositories are not read",
                hint=f"Run `apk add {' '.join(wanted)}` in the source.",
            )
        at = resolved(self._files, WORLD)
        entry = self._files.load(at) if self._files.kind(at) is Kind.FILE else None
        world = entry.text if isinstance(entry, File) else ""
        return removal(installed, world, [name for name in remove if name in installed])

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        return {}


def removal(present: Mapping[str, Package], world: str, unwanted: Sequence[str]) -> PackageChange:
    """Return what goes where these are taken out of the world: they, what needs them, and what only those needed.

    Raise PackagesUnavailable where that would take a part of Alpine itself along, or would bring something.
    """
    known = {name: next(stanzas(package.record)) for name, package in present.items()}
    gone = _needing(known, frozenset(unwanted))
    wanted = [_bare(word) for word in world.split() if not word.startswith("!")]
    kept = _closure({name: each for name, each in known.items() if name not in gone}, wanted)
    leaving = sorted(set(known) - kept)
    lost = [name for name in leaving if name in PROTECTED or KERNELS.fullmatch(name)]
    if lost:
        raise PackagesUnavailable(
            f"removing {', '.join(unwanted)} would take {', '.join(lost)} along, without which the guest is none any more",
            hint="Leave the step out with --skip, and take it out of the guest by hand after the move.",
        )
    return PackageChange(remove=tuple(present[name] for name in leaving))


def _needing(known: Mapping[str, Stanza], going: frozenset[str]) -> frozenset[str]:
    """Return these and all that cannot stay without them."""
    while True:
        provided = frozenset[str]().union(*(each.provides for name, each in known.items() if name not in going))
        more = {name for name, each in known.items() if name not in going and _lost(each, provided, known)}
        if not more:
            return going
        going |= more


def _lost(each: Stanza, provided: frozenset[str], known: Mapping[str, Stanza]) -> bool:
    """What was not provided before either (a database that somebody forced) is no reason."""
    return any(need not in provided and any(need in other.provides for other in known.values()) for need in each.needs)


def _closure(known: Mapping[str, Stanza], wanted: Sequence[str]) -> frozenset[str]:
    todo = list(wanted)
    kept: set[str] = set()
    seen: set[str] = set()
    while todo:
        while todo:
            need = todo.pop()
            if need in seen:
                continue
            seen.add(need)
            for name, each in known.items():
                if need in each.provides and name not in kept:
                    kept.add(name)
                    todo.extend(each.needs)
        provided = frozenset[str]().union(*(known[name].provides for name in kept))
        todo = [
            name for name, each in known.items() if name not in kept and each.triggers and each.triggers <= provided
        ]
    return frozenset(kept)
