"""Which packages a guest can be given, by the package manager that it has: resolved and fetched on the host, performed by the guest's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from migrate.errors import PackagesUnavailable
from migrate.guest import Package, PackageChange, Packaging
from migrate.guests import apt
from migrate.guests.system import ManyFiles, System
from migrate.run import Run


class Repositories(Protocol):
    """A set of places that packages come from, for one guest: its own repositories, those that a user names, a bundle."""

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        """Return everything that installing and removing these takes, against what is installed; never more is removed than must.

        Names that already hold are left out. Raise PackagesUnavailable where it cannot be resolved or a repository does not answer.
        """

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the package files of what a plan installs, by name, verified. Raise PackagesUnavailable."""


class Packages:
    """The package manager of a guest, as a room uses it: plans here, on the host; the room performs."""

    def __init__(self, run: Run, files: ManyFiles, system: System) -> None:
        self._run = run
        self._files = files
        self._system = system
        self._repositories: Repositories | None = None

    def plan(
        self, install: Sequence[str], remove: Sequence[str], installed: Mapping[str, Package] | None
    ) -> PackageChange:
        """Raise PackagesUnavailable where it cannot be resolved, or where dpkg was left in the middle of something."""
        present = self._system.installed.packages if installed is None else installed
        if all(name in present for name in install) and not any(name in present for name in remove):
            return PackageChange()
        repositories = self._own()
        if repositories is None:
            os = self._system.os
            raise PackagesUnavailable(
                f"packages of {os.pretty or os.id} cannot be changed: what it has is {os.packaging.value}",
                hint=f"Do it in the source before: install {_list(install)}; remove {_list(remove)}.",
            )
        if self._system.installed.unfinished:
            raise PackagesUnavailable(
                f"dpkg was interrupted in the guest: {', '.join(self._system.installed.unfinished)}",
                hint="Run `dpkg --configure -a` in the source, then try again.",
            )
        return repositories.plan(present, install=install, remove=remove)

    def fetch(self, change: PackageChange) -> dict[str, Path]:
        """Return the package files of what a change installs, by name."""
        repositories = self._own() if change.install else None
        return repositories.fetch(change.install) if repositories else {}

    def _own(self) -> Repositories | None:
        """The guest's own repositories; None where its package manager is none that can be served from here."""
        if self._repositories is None:
            match self._system.os.packaging:
                case Packaging.DPKG:
                    self._repositories = apt.Repositories(self._run, self._files, self._system.os)
        return self._repositories


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
