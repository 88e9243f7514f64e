"""What a vendor's packages and installers leave behind goes, in the order in which one thing leads to another."""

from collections.abc import Sequence

from migrate.draft import Draft
from migrate.effects import Severity
from remediations import systemd
from remediations.vendors import lines, traces
from remediations.vendors.catalogue import Vendor
from remediations.vendors.owners import Owners, remove_unowned
from remediations.vendors.patterns import every_package, installed

MOST_REFUSED = 20
"""As many paths of an installer's list are told that are not believed."""


def stop(draft: Draft, vendor: Vendor) -> None:
    """No link that nobody owns starts a unit of the vendor's, and nothing is there that scripts of its packages wrote."""
    owned = Owners(draft)
    for trace in traces.starts(draft, vendor, owned):
        draft.remove(trace.path, why=trace.why)
    for trace in tuple(traces.written_by_scripts(draft, vendor)):
        remove_unowned(draft, trace.path, owned, why=trace.why)


def remove(draft: Draft, vendor: Vendor) -> None:
    """Nothing of the vendor's is there but what a package owns; units that stay with their package are masked."""
    owned = Owners(draft)
    # Read first: the list itself is among the files that go.
    listed, refused = traces.listed(draft, vendor)
    for trace in tuple(traces.units(draft, vendor, owned)):
        remove_unowned(draft, trace.path, owned, why=trace.why)
    _remove_files(draft, vendor, owned, last=False)
    for trace in (*listed, *traces.orphans(draft, vendor, owned)):
        remove_unowned(draft, trace.path, owned, why=trace.why)
    lines.rewrite(draft, vendor)
    _mask(draft, vendor, owned, leaving=frozenset(installed(draft, vendor.last_packages)))
    _tell_refused(draft, vendor, refused)
    _tell_accounts(draft, vendor)


def remove_last(draft: Draft, vendor: Vendor) -> None:
    """Nothing is there of the clients of the vendor's repositories."""
    owned = Owners(draft)
    _remove_files(draft, vendor, owned, last=True)
    _mask(draft, vendor, owned, leaving=frozenset())


def _remove_files(draft: Draft, vendor: Vendor, owned: Owners, *, last: bool) -> None:
    passed_by: list[str] = []
    own = frozenset(installed(draft, every_package(vendor)))
    for trace in tuple(traces.files(draft, vendor, last=last)):
        others = (name for name in owned.within(draft.real(trace.path) or trace.path) if name not in own)
        passed_by += [f"{trace.path} (of {name})" for name in others]
        remove_unowned(draft, trace.path, owned, why=trace.why)
    if passed_by:
        draft.find(
            f"{vendor.code}-003",
            f"It looks like {vendor.name}'s and belongs to others, so it stays: {'; '.join(passed_by)}.",
            remedy="Nothing is to be done.",
            severity=Severity.NOTE,
        )


def _mask(draft: Draft, vendor: Vendor, owned: Owners, *, leaving: frozenset[str]) -> None:
    """Units whose package stays do not start. Of packages that are `leaving` later, the units go with them."""
    for name in traces.staying_units(draft, vendor, owned):
        if not leaving & traces.unit_owners(draft, name, owned):
            systemd.mask(draft, name, why=f"is a unit of {vendor.name}, whose package stays")


def _tell_refused(draft: Draft, vendor: Vendor, refused: Sequence[str]) -> None:
    there = [path for path in refused[:MOST_REFUSED] if draft.exists(path)]
    if there:
        draft.find(
            f"{vendor.code}-003",
            f"A list of {vendor.name}'s installer names files where that does not write, so they stay: {', '.join(there)}.",
            remedy="Look whether they are still needed.",
            severity=Severity.NOTE,
        )


def _tell_accounts(draft: Draft, vendor: Vendor) -> None:
    names = [line.partition(":")[0] for line in (draft.read("/etc/passwd") or "").splitlines()]
    for name, why in vendor.accounts.items():
        if name in names:
            draft.find(
                f"{vendor.code}-006",
                f"The account {name} stays: it {why}.",
                remedy=f"Remove it after the move where nothing of it is needed: userdel {name}",
                severity=Severity.NOTE,
            )
