"""Which packages a guest can be given, by its family: Debian's are resolved by apt on the host."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from migrate.errors import PackagesUnavailable
from migrate.guest import Package, PackageChange
from migrate.guests.apt import Repositories
from migrate.guests.system import ManyFiles, System
from migrate.run import Run


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
        os = self._system.os
        if os.family != "debian":
            raise PackagesUnavailable(
                f"packages of {os.pretty or os.id} cannot be changed: only Debian's and Ubuntu's can by now",
                hint=f"Do it in the source before: install {_list(install)}; remove {_list(remove)}.",
            )
        if self._system.installed.unfinished:
            raise PackagesUnavailable(
                f"dpkg was interrupted in the guest: {', '.join(self._system.installed.unfinished)}",
                hint="Run `dpkg --configure -a` in the source, then try again.",
            )
        return self._from().plan(present, install=install, remove=remove)

    def fetch(self, change: PackageChange) -> dict[str, Path]:
        """Return the package files of what a change installs, by name."""
        return self._from().fetch(change.install) if change.install else {}

    def _from(self) -> Repositories:
        if self._repositories is None:
            self._repositories = Repositories(self._run, self._files, self._system.os)
        return self._repositories


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"
