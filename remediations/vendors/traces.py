"""What there is of a vendor: its units, its files, and what an installer wrote down that it installed."""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import File, Kind, Link
from remediations import ini, systemd
from remediations.vendors.catalogue import Listed, Vendor
from remediations.vendors.owners import Owners, plain

LONGEST_LIST = 1 << 20
"""Of a list of installed files no more is read; the longest real ones are a tenth of it."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Something of a vendor that is there, and why it goes."""

    path: str
    why: str


def units(draft: Draft, vendor: Vendor, owned: Owners) -> Iterator[Trace]:
    """Yield the vendor's units that no package owns, with what starts, masks and changes them.

    The mask of a unit that stays with its package is left out. So is a link that leads nowhere: the scripts of the package whose file it
    led to take it, after the preview was made.
    """
    names = _unit_names(draft, vendor)
    for name in names:
        for path in _files(draft, name):
            if owned.of(path) is None:
                yield Trace(path, f"is a unit of {vendor.name}")
        mask = f"{systemd.OPERATORS}/{name}"
        if _is_mask(draft, mask) and not staying_unit(draft, name, owned):
            yield Trace(mask, f"masks a unit of {vendor.name} that is gone")
    yield from (trace for trace in starts(draft, vendor, owned) if draft.exists(trace.path))
    for folder in systemd.FOLDERS:
        for name in draft.names(folder):
            if (
                name.endswith(".d")
                and _matches_unit(name.removesuffix(".d"), vendor)
                and _holds_files(draft, f"{folder}/{name}")
            ):
                yield Trace(f"{folder}/{name}", f"changes a unit of {vendor.name}")


def starts(draft: Draft, vendor: Vendor, owned: Owners) -> tuple[Trace, ...]:
    """Return the links that start the vendor's units, aliases included, and that no package owns, whether or not they lead somewhere."""
    named = (path for path in _links(draft) if _matches_unit(PurePosixPath(path).name, vendor))
    found = dict.fromkeys((*named, *_aliases(draft, vendor)))
    return tuple(Trace(path, f"starts a unit of {vendor.name}") for path in found if owned.of(path) is None)


def staying_units(draft: Draft, vendor: Vendor, owned: Owners) -> tuple[str, ...]:
    """Return the vendor's units that a package keeps here, by name, sorted."""
    return tuple(name for name in _unit_names(draft, vendor) if staying_unit(draft, name, owned))


def staying_unit(draft: Draft, name: str, owned: Owners) -> bool:
    """Whether a package owns a unit's file outside of the operator's folder, which a mask there covers."""
    return bool(unit_owners(draft, name, owned))


def unit_owners(draft: Draft, name: str, owned: Owners) -> frozenset[str]:
    """Return the packages that own a unit's files outside of the operator's folder."""
    found = {owned.of(path) for path in _files(draft, name) if not path.startswith(systemd.OPERATORS)}
    return frozenset(name for name in found if name is not None)


def orphans(draft: Draft, vendor: Vendor, owned: Owners) -> Iterator[Trace]:
    """Yield the operator's units that nobody owns and that start what was the vendor's and is gone: extensions register some by themselves."""
    for path in draft.glob(f"{systemd.OPERATORS}/*.*"):
        file = draft.load(path)
        if not isinstance(file, File) or owned.of(path) is not None:
            continue
        programs = [
            word.lstrip("-@:+!")
            for _, key, value in ini.settings(file.text, continued=True)
            if key.startswith("Exec")
            for word in value.split()
        ]
        gone = [word for word in programs if _is_leftover(word, vendor) and not draft.exists(word)]
        if gone:
            yield Trace(path, f"starts {gone[0]}, which was {vendor.name}'s and is gone")
            links = (link for link in _links(draft) if PurePosixPath(link).name == PurePosixPath(path).name)
            yield from (Trace(link, f"starts a unit of {vendor.name}") for link in links)


def files(draft: Draft, vendor: Vendor, *, last: bool) -> Iterator[Trace]:
    """Yield the vendor's files and folders that are there. A folder without files is left out: it goes with a package, or harms nobody."""
    for group in vendor.leftovers:
        if group.last is last:
            for pattern in group.paths:
                yield from (Trace(path, group.why) for path in _matching(draft, pattern))


def written_by_scripts(draft: Draft, vendor: Vendor) -> Iterator[Trace]:
    """Yield the files that the scripts of the vendor's packages wrote, and may take."""
    for group in vendor.leftovers:
        if group.first:
            for pattern in group.paths:
                yield from (Trace(path, group.why) for path in _matching(draft, pattern))


def listed(draft: Draft, vendor: Vendor) -> tuple[tuple[Trace, ...], tuple[str, ...]]:
    """Return what the vendor's installers say that they installed and is there, and what is there that they name and is not for us to believe.

    A list is a file of the guest, and anybody may have written into it: a path counts only where it really is, links followed inside
    the guest, and there only in the places that the vendor's installer writes to.
    """
    found: dict[str, Trace] = {}
    refused: dict[str, None] = {}
    for each in vendor.lists:
        for path in _paths_in(draft, each):
            real = draft.real(path)
            if real is None or draft.kind(real) not in (Kind.FILE, Kind.LINK):
                continue
            if _is_within(path, each) and _is_within(real, each):
                found[real] = Trace(real, each.why)
            else:
                refused[real] = None
    return tuple(found.values()), tuple(refused)


def _paths_in(draft: Draft, each: Listed) -> Iterator[str]:
    file = draft.file(each.path)
    text = "" if file is None else file.content[:LONGEST_LIST].decode("utf-8", "surrogateescape")
    for line in text.splitlines():
        match = re.fullmatch(each.pattern, line.strip())
        if match is not None and match["path"].startswith("/") and "\0" not in line:
            yield match["path"]


def _is_within(path: str, each: Listed) -> bool:
    """Whether a path is in a place that the installer writes to. What leads upwards is in none."""
    upwards = {"..", "."} & set(path.split("/"))
    return not upwards and any(fnmatch.fnmatchcase(plain(path), plain(pattern)) for pattern in each.within)


def _unit_names(draft: Draft, vendor: Vendor) -> tuple[str, ...]:
    """Return the names of the vendor's units that have a file or a mask here."""
    there = {name for folder in systemd.FOLDERS for name in draft.names(folder)}
    linked = {PurePosixPath(path).name for path in _links(draft)}
    return tuple(sorted(name for name in there | linked if _matches_unit(name, vendor)))


def _links(draft: Draft) -> tuple[str, ...]:
    """Return the links in folders such as multi-user.target.wants, each once."""
    links = (
        path for folder in systemd.FOLDERS for path in draft.glob(f"{folder}/*.*/*") if draft.kind(path) is Kind.LINK
    )
    return tuple(dict.fromkeys(filter(None, map(draft.real, links))))


def _aliases(draft: Draft, vendor: Vendor) -> Iterator[str]:
    """Yield the operator's links by which a unit of the vendor's has another name: systemctl makes them with those that start it."""
    for path in draft.glob(f"{systemd.OPERATORS}/*.*"):
        entry = draft.load(path)
        if isinstance(entry, Link) and _matches_unit(PurePosixPath(entry.target).name, vendor):
            yield path


def _matches_unit(name: str, vendor: Vendor) -> bool:
    template = re.sub(r"@[^.]+\.", "@.", name)
    return any(fnmatch.fnmatchcase(word, pattern) for word in {name, template} for pattern in vendor.units)


def _files(draft: Draft, name: str) -> tuple[str, ...]:
    """Return where a unit has a file, or a link that leads somewhere; a mask is neither. Each place is there once, by whatever way it is reached."""
    paths = (f"{folder}/{name}" for folder in systemd.FOLDERS)
    there = (
        path
        for path in paths
        if draft.kind(path) in (Kind.FILE, Kind.LINK) and draft.exists(path) and not _is_mask(draft, path)
    )
    return tuple(dict.fromkeys(filter(None, map(draft.real, there))))


def _is_mask(draft: Draft, path: str) -> bool:
    entry = draft.load(path) if draft.kind(path) is Kind.LINK else None
    return isinstance(entry, Link) and entry.target == "/dev/null"


def _matching(draft: Draft, pattern: str) -> Iterator[str]:
    yield from (path for path in draft.glob(pattern) if draft.exists(path))
    above, _, name = pattern.rpartition("/")
    for folder in _folders(draft, above):
        for inner in draft.names(folder or "/"):
            if fnmatch.fnmatchcase(inner, name) and _holds_files(draft, f"{folder}/{inner}"):
                yield f"{folder}/{inner}"


def _folders(draft: Draft, pattern: str) -> Sequence[str]:
    """Return the folders that match a pattern of which each part may hold wild cards."""
    found = [""]
    for part in PurePosixPath(pattern).parts[1:]:
        if any(char in part for char in "*?["):
            found = [
                f"{base}/{name}"
                for base in found
                for name in draft.names(base or "/")
                if fnmatch.fnmatchcase(name, part)
            ]
        else:
            found = [f"{base}/{part}" for base in found]
    return found


def _holds_files(draft: Draft, folder: str) -> bool:
    """Whether a path is a folder with something other than folders in it. What Python compiled does not count: a package's scripts take it."""
    if PurePosixPath(folder).name == "__pycache__":
        return False
    if draft.real(folder) is None or draft.kind(folder) is not Kind.FOLDER:
        return False
    inside = [f"{folder}/{name}" for name in draft.names(folder)]
    return any(draft.kind(inner) is not Kind.FOLDER for inner in inside) or any(
        _holds_files(draft, inner) for inner in inside
    )


def _is_leftover(path: str, vendor: Vendor) -> bool:
    """Whether a path, or a folder above it, is one that the vendor leaves."""
    above = [str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents)] if path.startswith("/") else []
    patterns = [plain(pattern) for group in vendor.leftovers for pattern in group.paths]
    return any(
        pattern.count("/") == each.count("/") and fnmatch.fnmatchcase(plain(each), pattern)
        for each in above
        for pattern in patterns
    )
