"""Which package owns a file: what a package owns goes and stays with it."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from migrate.draft import Draft
from migrate.guest import Kind


class Owners:
    """The names of installed packages by the paths that they own, in the guest as it would be. Read when first asked for."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._by_path: Mapping[str, str] = {}
        self._paths: Sequence[str] = ()

    def of(self, path: str) -> str | None:
        self._read()
        return self._by_path.get(plain(path))

    def within(self, path: str) -> tuple[str, ...]:
        """Return the packages that own the path or something below it, sorted. A folder of 100,000 files takes no longer than another."""
        self._read()
        folder = plain(path) + "/"
        first, last = bisect_left(self._paths, folder), bisect_left(self._paths, folder[:-1] + "0")  # "0" follows "/"
        names = {self._by_path[each] for each in self._paths[first:last]} | {self._by_path.get(plain(path), "")}
        return tuple(sorted(names - {""}))

    def _read(self) -> None:
        if not self._paths:
            draft = self._draft
            self._by_path = {plain(each): name for name in draft.packages for each in draft.files_of(name)}
            self._paths = sorted(self._by_path)


def plain(path: str) -> str:
    """Return one name for a path, whether or not its package knows that /lib is a link to /usr/lib."""
    return path.removeprefix("/usr") if path.startswith(("/usr/bin/", "/usr/sbin/", "/usr/lib")) else path


def remove_unowned(draft: Draft, path: str, owned: Owners, *, why: str) -> None:
    """Nothing is at the path but what a package owns, with the folders above that."""
    real = draft.real(path)
    if real is None:
        return
    kind = draft.kind(real)
    if kind is Kind.FOLDER and owned.within(real):
        for inner in draft.walk(real):
            if draft.kind(inner) in (Kind.FILE, Kind.LINK) and owned.of(inner) is None:
                draft.remove(inner, why=why)
    elif kind is Kind.FOLDER or (kind in (Kind.FILE, Kind.LINK) and owned.of(real) is None):
        draft.remove(real, why=why)
