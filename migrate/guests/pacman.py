"""Arch's package database: what is installed, and whose a file is. It is only read.

Source: pacman, lib/libalpm/be_local.c: a folder for each package, with `desc` and `files` in it.
"""

from migrate.guest import File, Kind, Package
from migrate.guests.paths import Files, resolved

LOCAL = "/var/lib/pacman/local"
ARCH = {"x86_64": "amd64", "any": "all"}


def read(files: Files) -> tuple[dict[str, Package], dict[str, frozenset[str]]]:
    packages: dict[str, Package] = {}
    owned: dict[str, frozenset[str]] = {}
    at = resolved(files, LOCAL)
    for folder in files.names(at):
        described = sections(_text(files, f"{at}/{folder}/desc"))
        name, version, arch = (described.get(each, ("",))[0] for each in ("NAME", "VERSION", "ARCH"))
        if name and version:
            packages[name] = Package(name, version, ARCH.get(arch, arch))
            listed = sections(_text(files, f"{at}/{folder}/files")).get("FILES", ())
            owned[name] = frozenset(f"/{path}" for path in listed if not path.endswith("/"))
    return packages, owned


def sections(text: str) -> dict[str, tuple[str, ...]]:
    """Return the lines below each %NAME%, up to an empty one."""
    found = {}
    for block in text.split("\n\n"):
        title, *lines = block.strip("\n").split("\n")
        if lines and title.startswith("%") and title.endswith("%"):
            found[title.strip("%")] = tuple(lines)
    return found


def _text(files: Files, path: str) -> str:
    entry = files.load(path) if files.kind(path) is Kind.FILE else None
    return entry.text if isinstance(entry, File) else ""
