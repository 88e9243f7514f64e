"""Which of two versions is newer, as the guest's own package manager sees it: text and tuples of numbers would both be wrong.

The comparisons are univers's; tests hold them against dpkg and rpm themselves.
Sources: deb-version(7), rpm-version(7), apk-package(5), vercmp(8).
"""

from univers.versions import AlpineLinuxVersion, ArchLinuxVersion, DebianVersion, InvalidVersion, RpmVersion, Version

from migrate.errors import GuestError
from migrate.guest import Packaging

KINDS: dict[Packaging, type[Version]] = {
    Packaging.DPKG: DebianVersion,
    Packaging.RPM: RpmVersion,
    Packaging.APK: AlpineLinuxVersion,
    Packaging.PACMAN: ArchLinuxVersion,
}


def compare(packaging: Packaging, one: str, other: str) -> int:
    """Return -1, 0 or 1 where `one` is older than, as old as, or newer than `other`. Raise GuestError on what is no version."""
    kind = KINDS.get(packaging)
    if kind is None:
        raise GuestError(f"versions {one} and {other} cannot be compared in a guest without a package manager")
    try:
        first, second = kind(one), kind(other)
        return int(first > second) - int(first < second)
    except (InvalidVersion, ValueError) as error:
        raise GuestError(f"{one!r} or {other!r} is not a version as {packaging.value} writes them") from error


def at_least(packaging: Packaging, version: str, wanted: str) -> bool:
    """Tell whether a package of this version is as recent as what is wanted."""
    return compare(packaging, version, wanted) >= 0
