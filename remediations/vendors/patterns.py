"""Names of packages that match a vendor's patterns, as in fnmatch(3)."""

import fnmatch
from collections.abc import Iterable

from migrate.draft import Draft
from remediations.vendors.catalogue import Vendor


def installed(draft: Draft, patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the installed packages that match, sorted."""
    wanted = tuple(patterns)
    return tuple(name for name in sorted(draft.packages) if matches(name, wanted))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a package's name matches; dpkg's "name:architecture" does as its name."""
    return any(fnmatch.fnmatchcase(name.partition(":")[0], pattern) for pattern in patterns)


def reason(name: str, whys: dict[str, str]) -> str | None:
    """Return what is said of the first pattern that matches."""
    return next((why for pattern, why in whys.items() if matches(name, (pattern,))), None)


def every_package(vendor: Vendor) -> tuple[str, ...]:
    """Return the patterns of all packages that are the vendor's, whether they go or stay."""
    return (*vendor.packages, *vendor.kept_packages, *vendor.told_packages, *vendor.last_packages)
