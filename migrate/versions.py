"""Which of two package versions is newer, as the package managers themselves decide it: text and tuples of numbers would both be wrong.

The comparisons are univers's; tests hold them against dpkg and rpm themselves.
Sources: deb-version(7); rpm-version(7); apk-package(5); vercmp(8).
"""

from collections.abc import Callable

from univers.versions import AlpineLinuxVersion, ArchLinuxVersion, DebianVersion, InvalidVersion, RpmVersion, Version

from migrate.guest import Packaging

Order = Callable[[str, str], int]


def order(packaging: Packaging) -> Order | None:
    """Return what compares the versions of a package manager; None where it is not known how it does.

    The comparison returns a number below, equal to or above 0, as the first version is older, equal or newer.
    """
    match packaging:
        case Packaging.DPKG:
            return compare_dpkg
        case Packaging.RPM:
            return compare_rpm
        case Packaging.APK:
            return compare_apk
        case Packaging.PACMAN:
            return compare_pacman
    return None


def compare_dpkg(one: str, other: str) -> int:
    """Compare [EPOCH:]UPSTREAM[-REVISION]; a missing revision is one of "0"."""
    return _compared(DebianVersion, one, other)


def compare_rpm(one: str, other: str) -> int:
    """Compare [EPOCH:]VERSION[-RELEASE]; without a release it is older than with any."""
    return _compared(RpmVersion, one, other)


def compare_apk(one: str, other: str) -> int:
    """Compare VERSION[_SUFFIX][-rREVISION]."""
    return _compared(AlpineLinuxVersion, one, other)


def compare_pacman(one: str, other: str) -> int:
    """Compare [EPOCH:]VERSION[-RELEASE]."""
    return _compared(ArchLinuxVersion, one, other)


def _compared(kind: type[Version], one: str, other: str) -> int:
    """What is no version (the text is the guest's) is neither older nor newer than anything."""
    try:
        first, second = kind(one), kind(other)
        return int(first > second) - int(first < second)
    except (InvalidVersion, ValueError):
        return 0
