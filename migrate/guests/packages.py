"""Which packages a guest can be given, by the package manager that it has: resolved and fetched on the host, performed by the guest's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from migrate.errors import PackagesUnavailable
from migrate.guest import Package, PackageChange, Packaging
from migrate.guests import apk, apt, rpm
from migrate.guests.ladder import NO_OFFERS, Ladder, Offers, Repositories
from migrate.guests.system import ManyFiles, System
from migrate.run import Run


class Packages:
    """The package manager of a guest, as a room uses it: plans here, on the host; the room performs."""

    def __init__(self, run: Run, files: ManyFiles, system: System, offers: Offers = NO_OFFERS) -> None:
        self._run = run
        self._files = files
        self._system = system
        self._repositories: Repositories | None = None
        self._ladder = Ladder(run, files, system, self._own, offers)

    def plan(
        self, install: Sequence[str], remove: Sequence[str], installed: Mapping[str, Package] | None
    ) -> PackageChange:
        """Raise PackagesUnavailable where it cannot be resolved, or where dpkg was left in the middle of something."""
        present = self._system.installed.packages if installed is None else installed
        if all(name in present for name in install) and not any(name in present for name in remove):
            return PackageChange()
        if self._own() is None:
            os = self._system.os
            raise PackagesUnavailable(
                f"packages of {os.pretty or os.id} cannot be changed: what it has is {os.packaging.value}",
                hint=f"Do it in the source before: install {_list(install)}; remove {_list(remove)}.",
            )
        if unfinished := self._system.installed.unfinished:
            said = f"dpkg was interrupted in the guest: {', '.join(unfinished)}"
            remedy = "Run `dpkg --configure -a` in the source, then try again."
            raise PackagesUnavailable(said, hint=remedy, passed=(f"{said}. {remedy}",))
        return self._ladder.plan(present, install=install, remove=remove)

    def fetch(self, change: PackageChange) -> dict[str, Path]:
        """Return the package files of what a change installs, by name."""
        return self._ladder.fetch(change.install) if change.install else {}

    def _own(self) -> Repositories | None:
        """The guest's own repositories; None where its package manager is none that can be served from here."""
        if self._repositories is None:
            match self._system.os.packaging:
                case Packaging.DPKG:
                    self._repositories = apt.Repositories(self._run, self._files, self._system.os)
                case Packaging.RPM:
                    self._repositories = rpm.Repositories(self._run, self._files, self._system)
                case Packaging.APK:
                    self._repositories = apk.World(self._files)
        return self._repositories


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
