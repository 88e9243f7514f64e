"""What other clouds leave in a guest, as data, one file per vendor; and the engine that takes it out and looks whether it is gone.

What a vendor's file says is in catalogue.py.
"""

import fnmatch
from collections.abc import Iterator
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind, Link
from migrate.remediation import Remediation, Settings
from remediations import systemd
from remediations.vendors.catalogue import Vendor, vendor

__all__ = ["Vendor", "leftover_removal", "package_removal", "vendor"]


def package_removal(vendor: Vendor) -> Remediation:
    """Return the remediation after which no package of the vendor is installed."""

    def act(draft: Draft, settings: Settings) -> None:
        _remove_packages(draft, vendor)

    return Remediation(
        f"remove-{vendor.slug}-packages",
        f"Remove {vendor.name}'s packages",
        f"{vendor.name}'s agents and drivers have nothing to talk to on another cloud; they fail at each boot, or wait. "
        "Packages that cannot stay without them go too, and are told; nothing is removed only because nobody needs it any more, "
        "for that may be what the machine is there for.",
        (
            "open-vm-tools, debian/control and open-vm-tools.spec",
            "apt-get(8), autoremove; dnf(8), clean_requirements_on_remove",
        ),
        act,
    )


def leftover_removal(vendor: Vendor) -> Remediation:
    """Return the remediation after which nothing of the vendor is there but what a package owns, which is told."""

    def act(draft: Draft, settings: Settings) -> None:
        _remove_leftovers(draft, vendor)

    return Remediation(
        f"remove-{vendor.slug}-leftovers",
        f"Remove what {vendor.name}'s packages and installers leave behind",
        f"State, logs, certificates and settings of {vendor.name}'s agents belong to no package, and an agent from a tarball is known "
        "to no package manager. They go, with the masks and drop-ins of its units; a file that a package owns stays.",
        ("open-vm-tools, scripts/; virt-v2v's list of tools",),
        act,
    )


def _remove_packages(draft: Draft, vendor: Vendor) -> None:
    installed = _installed(draft, vendor)
    kept = {name: why for name in installed for pattern, why in vendor.kept_packages.items() if _is(name, pattern)}
    for name, why in kept.items():
        draft.find(
            f"{vendor.code}-002",
            f"The package {name} stays: it {why}.",
            remedy="Replace it in the source VM.",
        )
    going = tuple(name for name in installed if name not in kept)
    if not going:
        return
    change = draft.plan_packages(remove=going)
    for package in change.remove:
        if package.name in vendor.metapackages:
            draft.find(
                f"{vendor.code}-001",
                f"{package.name} goes with {vendor.name}'s packages, because it depends on them. It only names other packages, which stay; "
                "but `apt autoremove` would now take them.",
                remedy="After the move: apt-mark manual PACKAGES for those you need, or leave autoremove alone.",
                severity=Severity.NOTE,
            )
        elif package.name not in going:
            draft.find(
                f"{vendor.code}-002",
                f"{package.name} {package.version} goes with {vendor.name}'s packages, because it depends on them.",
                remedy=f"If it is needed, install it again after the move, or leave the packages in: --skip remove-{vendor.slug}-packages",
            )
    draft.change_packages(change, why=f"belongs to {vendor.name}, which this machine leaves")


def _remove_leftovers(draft: Draft, vendor: Vendor) -> None:
    found = list(_leftovers(draft, vendor))
    owners = _owners(draft) if found else {}
    for path, why in found:
        _remove_unowned(draft, path, owners, why)
    left = [
        *_installed(draft, vendor),
        *(f"{path} ({_owner_of(draft, path, owners)})" for path, _ in _leftovers(draft, vendor)),
    ]
    if left:
        draft.find(
            f"{vendor.code}-003",
            f"Of {vendor.name} there is still: {', '.join(left)}.",
            remedy="It does no harm to the boot; remove it after the move if you like.",
            severity=Severity.NOTE,
        )


def _installed(draft: Draft, vendor: Vendor) -> tuple[str, ...]:
    return tuple(
        name for name in sorted(draft.packages) if any(_is(name.split(":")[0], pattern) for pattern in vendor.packages)
    )


def _is(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern)


def _leftovers(draft: Draft, vendor: Vendor) -> Iterator[tuple[str, str]]:
    """Yield what is there of the vendor, with the reason why it goes.

    A link that leads nowhere is left out: the scripts of the package whose file it led to take it, after the preview was made. So is a folder
    without files, which a package manager takes along or which harms nobody.
    """
    for unit in vendor.units:
        mask = f"{systemd.OPERATORS}/{unit}"
        entry = draft.load(mask)
        if isinstance(entry, Link) and entry.target == "/dev/null":
            yield mask, f"masks a unit of {vendor.name} that is gone"
        elif entry is not None and draft.exists(mask):
            yield mask, f"is a unit of {vendor.name}"
        yield from ((path, f"starts a unit of {vendor.name}") for path in _links_to(draft, unit))
        if _holds_files(draft, f"{mask}.d"):
            yield f"{mask}.d", f"changes a unit of {vendor.name} that is gone"
    for group in vendor.leftovers:
        for pattern in group.paths:
            yield from ((path, group.why) for path in _matching(draft, pattern))


def _links_to(draft: Draft, unit: str) -> tuple[str, ...]:
    """The links that start a unit which is there; a package's own scripts take those of one that it owned."""
    links = draft.glob(f"{systemd.OPERATORS}/*.*/*")
    return tuple(path for path in links if PurePosixPath(path).name == unit and draft.exists(path))


def _matching(draft: Draft, pattern: str) -> Iterator[str]:
    yield from (path for path in draft.glob(pattern) if draft.exists(path))
    folder, _, name = pattern.rpartition("/")
    for inner in draft.names(folder):
        path = f"{folder}/{inner}"
        if _is(inner, name) and draft.kind(path) is Kind.FOLDER and _holds_files(draft, path):
            yield path


def _holds_files(draft: Draft, folder: str) -> bool:
    return any(draft.kind(path) is not Kind.FOLDER for path in draft.walk(folder))


def _owners(draft: Draft) -> dict[str, str]:
    return {_plain(path): name for name in draft.packages for path in draft.files_of(name)}


def _plain(path: str) -> str:
    """Where /lib is a link to /usr/lib, databases of packages still say /lib."""
    return path.removeprefix("/usr") if path.startswith(("/usr/bin/", "/usr/sbin/", "/usr/lib")) else path


def _owner_of(draft: Draft, path: str, owners: dict[str, str]) -> str:
    inside = (path, *draft.walk(path)) if draft.kind(path) is Kind.FOLDER else (path,)
    names = sorted({owners[each] for each in map(_plain, inside) if each in owners})
    return f"of {', '.join(names)}" if names else "of no package"


def _remove_unowned(draft: Draft, path: str, owners: dict[str, str], why: str) -> None:
    if draft.kind(path) is not Kind.FOLDER:
        if _plain(path) not in owners:
            draft.remove(path, why=why)
        return
    inside = [inner for inner in draft.walk(path) if draft.kind(inner) is not Kind.FOLDER]
    owned = [inner for inner in inside if _plain(inner) in owners]
    if not owned:
        draft.remove(path, why=why)
        return
    for inner in inside:
        if inner not in owned:
            draft.remove(inner, why=why)
