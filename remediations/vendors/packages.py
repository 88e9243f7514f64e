"""A vendor's packages: what goes, what cannot, and what goes along."""

from dataclasses import dataclass

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.errors import PackagesUnavailable
from migrate.guest import PackageChange
from remediations.vendors.catalogue import Vendor
from remediations.vendors.package_sources import nothing_is_left
from remediations.vendors.patterns import installed, reason


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes in one transaction, and what must stay, by name and why."""

    change: PackageChange
    kept: dict[str, str]


def remove(draft: Draft, vendor: Vendor) -> None:
    """No package of the vendor is installed but those that must stay and those that the user is asked about."""
    for name in installed(draft, vendor.told_packages):
        draft.find(
            f"{vendor.code}-004",
            f"{name} {draft.packages[name].version} stays: it {reason(name, vendor.told_packages)}.",
            remedy="Remove it in the source VM, or after the move, where it is not needed any more.",
        )
    later = frozenset(installed(draft, vendor.last_packages))
    told = frozenset(installed(draft, vendor.told_packages))
    names = tuple(name for name in installed(draft, vendor.packages) if name not in later | told)
    _remove(draft, vendor, names)


def remove_last(draft: Draft, vendor: Vendor) -> None:
    """No client of the vendor's repositories is installed."""
    names = installed(draft, vendor.last_packages)
    if not names:
        return
    _remove(draft, vendor, names)
    if nothing_is_left(draft, (vendor,)):
        draft.find(
            f"{vendor.code}-005",
            f"{vendor.name}'s repositories go with {', '.join(names)}, and the guest has no others: nothing can be installed or updated.",
            remedy="Register it with the distribution's own service, or name a repository, once it runs on Magalu Cloud.",
        )


def _remove(draft: Draft, vendor: Vendor, names: tuple[str, ...]) -> None:
    try:
        removal = _planned(draft, vendor, names)
    except PackagesUnavailable as error:
        draft.find(
            f"{vendor.code}-002",
            f"{', '.join(names)} stay, because they cannot be removed here: {error.message}. Their units are masked.",
            remedy=error.hint,
        )
        return
    for name, why in removal.kept.items():
        draft.find(f"{vendor.code}-002", f"The package {name} stays: it {why}.", remedy="Replace it in the source VM.")
    for package in removal.change.remove:
        if package.name in vendor.metapackages:
            draft.find(
                f"{vendor.code}-001",
                f"{package.name} goes with {vendor.name}'s packages, because it depends on them. It only names other packages, which stay "
                "and are marked as wanted.",
                remedy="Nothing is to be done.",
                severity=Severity.NOTE,
            )
        elif package.name not in names:
            draft.find(
                f"{vendor.code}-002",
                f"{package.name} {package.version} goes with {vendor.name}'s packages, because it depends on them.",
                remedy=f"If it is needed, install it again after the move, or leave the packages in: --skip remove-{vendor.slug}-packages",
            )
    draft.change_packages(removal.change, why=f"belongs to {vendor.name}, which this machine leaves")


def _planned(draft: Draft, vendor: Vendor, names: tuple[str, ...]) -> Removal:
    """Plan to remove what does not drag along what must stay. Raise PackagesUnavailable."""
    kept = {name: why for name in names if (why := reason(name, vendor.kept_packages)) is not None}
    going = tuple(name for name in names if name not in kept)
    change = draft.plan_packages(remove=going) if going else PackageChange()
    dragged = _protected(change, vendor)
    if dragged:
        for name in going:
            needing = _protected(draft.plan_packages(remove=(name,)), vendor)
            if needing:
                kept[name] = f"is needed by {', '.join(needing)}, which {reason(needing[0], vendor.kept_packages)}"
        going = tuple(name for name in going if name not in kept)
        change = draft.plan_packages(remove=going) if going else PackageChange()
    return Removal(change, kept)


def _protected(change: PackageChange, vendor: Vendor) -> tuple[str, ...]:
    return tuple(package.name for package in change.remove if reason(package.name, vendor.kept_packages) is not None)
