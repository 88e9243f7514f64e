"""A guest in a folder of the host: for tests."""

from collections.abc import Mapping
from pathlib import Path

from migrate.errors import GuestError
from migrate.guest import Entry, Layout, LayoutChange, Package, PackageChange, Rebuild
from migrate.guests.files import FolderFiles
from migrate.guests.memory import PLAIN_LAYOUT
from migrate.guests.system import OfSystem, System
from migrate.run import Run


class TreeGuest(OfSystem, FolderFiles):
    """A Guest whose files are those below `root`. It has no room to run programs in, so packages and rebuilds are refused."""

    def __init__(self, root: Path, run: Run, *, layout: Layout = PLAIN_LAYOUT) -> None:
        super().__init__(root)
        self._layout = layout
        self._system = System(self, run)

    @property
    def layout(self) -> Layout:
        return self._layout

    def store(self, path: str, entry: Entry | None) -> None:
        super().store(path, entry)
        self._system.changed(path)

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        present = self.packages if installed is None else installed
        if all(name in present for name in install) and not any(name in present for name in remove):
            return PackageChange()
        raise GuestError("a guest in a folder has no room to run its package manager in")

    def change_packages(self, change: PackageChange) -> None:
        if change.install or change.remove:
            raise GuestError("a guest in a folder has no room to run its package manager in")

    def change_layout(self, change: LayoutChange) -> None:
        raise GuestError("a guest in a folder has no disk")

    def rebuild(self, what: Rebuild) -> None:
        raise GuestError(f"a guest in a folder has no room to build its {what.value} in")
