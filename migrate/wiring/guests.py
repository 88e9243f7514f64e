"""The guest's repairs and the rooms in which they are made on this machine."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from migrate.guest import Guest
from migrate.guests import bundle, bundling, ladder
from migrate.guests.dissect_room import check_installed
from migrate.guests.rooms import Choice
from migrate.guests.rooms import Rooms as GuestRooms
from migrate.guests.rooms import check_repairs as rooms_check_repairs
from migrate.order import Repair, Rooms
from migrate.proof import kvm
from migrate.remediation import Remediation
from migrate.run import Note, Run
from migrate.source import Firmware
from remediations import BUILTIN
from remediations.needed_packages import packages_for

REMEDIATIONS: Sequence[Remediation] = BUILTIN

Offers = ladder.Offers

NO_GROWTH = frozenset({"DISK-005", "DISK-006", "CLOUD-008"})


class Host:
    """What this machine can do, found out when it is first needed: a VM that is refused is refused at once."""

    def __init__(self) -> None:
        self._kvm: bool | None = None

    def has_kvm(self, run: Run) -> bool:
        """Whether KVM is of use; it is believed only after a guest ran. What it means where it is not is said once."""
        if self._kvm is None:
            state = kvm.usable(run)
            if not state.usable:
                run.tell(
                    Note(
                        f"KVM does not work here: {state.why}. The guest is emulated, which is slower and changes nothing else."
                    )
                )
            self._kvm = state.usable
        return self._kvm


@dataclass(frozen=True, slots=True)
class _Rooms:
    """The rooms of this machine. Which one it is, is decided when a guest is opened."""

    host: Host
    choice: Choice
    offers: Offers
    root: str | None

    def look(
        self, run: Run, uri: str, firmware: Firmware | None, data: Sequence[str] = ()
    ) -> AbstractContextManager[Guest]:
        return self._of(run).look(run, uri, firmware, data)

    def repair(
        self, run: Run, uri: str, overlay: Path, firmware: Firmware | None, data: Sequence[str] = ()
    ) -> AbstractContextManager[Repair]:
        return self._of(run).repair(run, uri, overlay, firmware, data)

    def _of(self, run: Run) -> GuestRooms:
        return GuestRooms(lambda: self.host.has_kvm(run), self.choice, self.offers, self.root)


def rooms(host: Host, choice: str, offered: Offers = ladder.NO_OFFERS, root: str | None = None) -> Rooms:
    """Return the rooms of this machine.

    `offered` is what the user brings for guests that lack packages; `root` names the root file system where there are several.
    Raise UsageError for one whose libraries are not installed.
    """
    chosen = Choice(choice)
    if chosen is Choice.DISSECT:
        check_installed()
    return _Rooms(host, chosen, offered, root)


def check_repairs(choice: str) -> None:
    """Raise UsageError for a room in which a guest can only be looked at."""
    rooms_check_repairs(Choice(choice))


def offers(repos: Sequence[str], bundles: Sequence[Path], *, offline: bool) -> Offers:
    """Return what the user brings for guests that lack packages. Raise UsageError, or BundleBroken for a folder that is no bundle."""
    return ladder.offers(repos, bundles, offline=offline)


def make_bundle(run: Run, folder: Path, release: str, repos: Sequence[str]) -> bundle.Bundle:
    """Make a bundle for a release ("debian:12") of all that our remediations install. Raise UsageError, PackagesUnavailable."""
    wanted = bundling.release(release)
    asked, if_there = packages_for(wanted.id)
    return bundling.make_bundle(run, folder, wanted, asked, if_there, bundling.repositories(wanted, repos))


def read_bundle(folder: Path) -> bundle.Bundle:
    """Return the bundle in a folder. Raise BundleBroken where it is none."""
    return bundle.read_bundle(folder)
