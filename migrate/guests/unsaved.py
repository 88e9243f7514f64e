"""Files of a guest that can only be read, and what is stored in it meanwhile: that is kept in memory and forgotten at the end."""

from collections.abc import Mapping
from typing import Protocol

from migrate.errors import GuestError
from migrate.guest import Entry, File, Folder, Kind, Link, Status
from migrate.guests.paths import parent, parts


class ReadFiles(Protocol):
    """The part of a Guest that only looks at files."""

    def kind(self, path: str) -> Kind: ...
    def load(self, path: str) -> Entry: ...
    def names(self, path: str) -> tuple[str, ...]: ...
    def texts(self, path: str, suffix: str) -> Mapping[str, str]: ...
    def statuses(self) -> Mapping[str, Status]: ...


class UnsavedFiles:
    """The file part of a Guest over `lower`, which stays as it is."""

    def __init__(self, lower: ReadFiles) -> None:
        self._lower = lower
        self._stored: dict[str, tuple[Entry, int]] = {}
        self._hidden: set[str] = set()
        """Paths at and below which nothing of the lower files is seen."""
        self._changes = 0

    def kind(self, path: str) -> Kind:
        if path in self._stored:
            return _kind(self._stored[path][0])
        return Kind.MISSING if self._is_hidden(path) else self._lower.kind(path)

    def load(self, path: str) -> Entry:
        if path in self._stored:
            return self._stored[path][0]
        if self._is_hidden(path):
            raise GuestError(f"{path} in the guest cannot be read: it is missing")
        return self._lower.load(path)

    def names(self, path: str) -> tuple[str, ...]:
        if self.kind(path) is not Kind.FOLDER:
            return ()
        above = f"{path.rstrip('/')}/"
        found = (
            set() if self._is_hidden(path) else {n for n in self._lower.names(path) if above + n not in self._hidden}
        )
        return tuple(sorted(found | {each.removeprefix(above) for each in self._stored if parent(each) == path}))

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        if self._hidden or self._stored:
            loaded = {name: self.load(f"{path}/{name}") for name in self.names(path) if name.endswith(suffix)}
            return {name: entry.text for name, entry in loaded.items() if isinstance(entry, File)}
        return self._lower.texts(path, suffix)

    def statuses(self) -> Mapping[str, Status]:
        found = {path: status for path, status in self._lower.statuses().items() if not self._is_hidden(path)}
        for path, (entry, change) in self._stored.items():
            match entry:
                case File(content, mode, uid, gid):
                    found[path] = Status(Kind.FILE, mode, uid, gid, len(content), f"change {change}")
                case Folder(mode, uid, gid):
                    found[path] = Status(Kind.FOLDER, mode, uid, gid, 0, f"change {change}")
                case Link():
                    found[path] = Status(Kind.LINK, 0, 0, 0, 0, f"change {change}")
        return found

    def store(self, path: str, entry: Entry | None) -> None:
        kind = self.kind(path)
        if not parts(path):
            raise GuestError("the root folder of the guest stays as it is")
        if kind is Kind.OTHER:
            raise GuestError(f"{path} in the guest is a device, socket or pipe, and stays as it is")
        if kind is Kind.MISSING and entry is None:
            return
        if self.kind(parent(path)) is not Kind.FOLDER:
            raise GuestError(f"{path} in the guest has no folder to be in")
        if kind is Kind.FOLDER and not isinstance(entry, Folder) and self.names(path):
            raise GuestError(f"{path} in the guest is a folder that is not empty")
        self._stored.pop(path, None)
        if not (kind is Kind.FOLDER and isinstance(entry, Folder)):
            self._hidden.add(path)
        if entry is not None:
            self._changes += 1
            self._stored[path] = (entry, self._changes)

    def remove(self, path: str) -> None:
        if not parts(path):
            raise GuestError("the root folder of the guest stays as it is")
        self._stored = {each: kept for each, kept in self._stored.items() if each != path and not _is_below(each, path)}
        self._hidden.add(path)

    def _is_hidden(self, path: str) -> bool:
        """What has been stored at a path is not asked for here."""
        if not self._hidden:
            return False
        names = parts(path)
        return any("/" + "/".join(names[:count]) in self._hidden for count in range(1, len(names) + 1))


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _kind(entry: Entry) -> Kind:
    match entry:
        case File():
            return Kind.FILE
        case Folder():
            return Kind.FOLDER
        case Link():
            return Kind.LINK
