"""Files below a folder, reached without ever following a link.

Nothing in the folder leads out of it: each part of a path is opened from the folder before it and no link is ever followed, so a link
that a hostile guest made, or changes meanwhile, is seen as a link and nothing else. Source: openat(2), O_NOFOLLOW, O_PATH.
"""

import errno
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from migrate.errors import GuestError
from migrate.guest import Entry, File, Folder, Kind, Link, Status
from migrate.guests.paths import parts

MOST_BYTES = 1 << 30
"""What `load` reads at most: an initramfs is far below it, and a hostile sparse file far above."""

NOT_KEPT = frozenset({"security.capability", "security.ima", "security.evm"})
"""Attributes that belong to a content, not to a name: the kernel drops them too when a file is written. Source: capabilities(7)."""


class FolderFiles:
    """The file part of a Guest, on the folder `root`. As an ordinary user, who cannot give files away, owners are not set."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def kind(self, path: str) -> Kind:
        names = parts(path)
        if not names:
            return Kind.FOLDER
        with self._folder(names[:-1]) as folder:
            status = _status(folder, names[-1])
        return Kind.MISSING if status is None else _kind(status.st_mode)

    def load(self, path: str) -> Entry:
        names = parts(path)
        if not names:
            return _folder_entry(self._root.stat())
        with self._folder(names[:-1]) as folder:
            status = _status(folder, names[-1])
            match Kind.MISSING if status is None else _kind(status.st_mode):
                case Kind.LINK:
                    return Link(os.readlink(_bytes(names[-1]), dir_fd=folder).decode("utf-8", "surrogateescape"))
                case Kind.FOLDER if status is not None:
                    return _folder_entry(status)
                case Kind.FILE if folder is not None:
                    return _read(folder, names[-1], path)
                case kind:
                    raise GuestError(f"{path} in the guest cannot be read: it is {kind.value}")

    def names(self, path: str) -> tuple[str, ...]:
        with self._folder(parts(path)) as folder:
            return () if folder is None else tuple(sorted(_listed(folder)))

    def statuses(self) -> Mapping[str, Status]:
        found: dict[str, Status] = {}
        todo: list[tuple[str, ...]] = [()]
        while todo:
            names = todo.pop()
            with self._folder(names) as folder:
                for name in [] if folder is None else _listed(folder):
                    status = _status(folder, name)
                    if status is None:
                        continue
                    inner = (*names, name)
                    found["/" + "/".join(inner)] = told(status)
                    if stat.S_ISDIR(status.st_mode):
                        todo.append(inner)
        return found

    def kinds(self, path: str) -> dict[str, Kind]:
        """Return what each name in a folder is, sorted; {} where there is no folder."""
        with self._folder(parts(path)) as folder:
            return {} if folder is None else dict(sorted(_listed_kinds(folder)))

    def store(self, path: str, entry: Entry | None) -> None:
        names = parts(path)
        if not names:
            raise GuestError("the root folder of the guest stays as it is")
        with self._folder(names[:-1]) as folder:
            if folder is None:
                if entry is None:
                    return
                raise GuestError(f"{path} in the guest has no folder to be in")
            try:
                _put(folder, names[-1], entry)
            except OSError as error:
                raise GuestError(f"{path} in the guest cannot be changed: {error.strerror}") from error

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """A folder of the host has no such attributes of its own."""
        return frozenset()

    def remove(self, path: str) -> None:
        names = parts(path)
        if not names:
            raise GuestError("the root folder of the guest stays as it is")
        with self._folder(names[:-1]) as folder:
            if folder is None:
                return
            try:
                _remove(folder, names[-1])
            except OSError as error:
                raise GuestError(f"{path} in the guest cannot be removed: {error.strerror}") from error

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        """Return the texts of all files in a folder whose names end so."""
        found = {}
        for name in self.names(path):
            if name.endswith(suffix) and isinstance(entry := self.load(f"{path}/{name}"), File):
                found[name] = entry.text
        return found

    @contextmanager
    def _folder(self, names: tuple[str, ...]) -> Iterator[int | None]:
        """Open a folder, part by part; None where there is none (a link is none)."""
        at: int | None = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                if at is None:
                    break
                above, at = at, None
                try:
                    at = _open_folder(above, name)
                finally:
                    os.close(above)
            yield at
        finally:
            if at is not None:
                os.close(at)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return Kind.FILE
    if stat.S_ISDIR(mode):
        return Kind.FOLDER
    return Kind.LINK if stat.S_ISLNK(mode) else Kind.OTHER


def _open_folder(folder: int, name: str) -> int | None:
    try:
        return os.open(_bytes(name), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise GuestError(f"the folder {name!r} of the guest cannot be opened: {error.strerror}") from error


def _status(folder: int | None, name: str) -> os.stat_result | None:
    if folder is None:
        return None
    try:
        return os.stat(_bytes(name), dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise GuestError(f"{name!r} in the guest cannot be looked at: {error.strerror}") from error


def told(status: os.stat_result) -> Status:
    """Return what lstat(2) says. The time of the last change of an inode cannot be set: it is another one after each write."""
    kind = _kind(status.st_mode)
    if kind in (Kind.LINK, Kind.OTHER):
        return Status(kind, 0, 0, 0, 0, str(status.st_ctime_ns))
    size = status.st_size if kind is Kind.FILE else 0
    return Status(kind, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, size, str(status.st_ctime_ns))


def _folder_entry(status: os.stat_result) -> Folder:
    return Folder(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _listed(folder: int) -> list[str]:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)  # O_PATH cannot be listed
    try:
        return [os.fsencode(name).decode("utf-8", "surrogateescape") for name in os.listdir(readable)]  # noqa: PTH208
    finally:
        os.close(readable)


def _listed_kinds(folder: int) -> Iterator[tuple[str, Kind]]:
    readable = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        with os.scandir(readable) as entries:
            for entry in entries:
                yield os.fsencode(entry.name).decode("utf-8", "surrogateescape"), _entry_kind(entry)
    finally:
        os.close(readable)


def _entry_kind(entry: os.DirEntry[str]) -> Kind:
    """Folders tell their entries' kinds, and only where they do not is each one asked. Source: readdir(3), d_type."""
    if entry.is_symlink():
        return Kind.LINK
    if entry.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    return Kind.FILE if entry.is_file(follow_symlinks=False) else Kind.OTHER


def _read(folder: int, name: str, path: str) -> File:
    """It may have become a pipe since it was looked at: O_NONBLOCK keeps the open from waiting, and fstat(2) tells."""
    try:
        file = os.open(_bytes(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        raise GuestError(f"{path} in the guest cannot be read: {error.strerror}") from error
    with os.fdopen(file, "rb") as opened:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise GuestError(f"{path} in the guest is no file any more")
        if status.st_size > MOST_BYTES:
            raise GuestError(
                f"{path} in the guest is {status.st_size:,} bytes large, and at most {MOST_BYTES:,} are read"
            )
        try:
            content = opened.read(MOST_BYTES + 1)
        except OSError as error:
            raise GuestError(f"{path} in the guest cannot be read: {error.strerror}") from error
    return File(content, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def _remove(folder: int, name: str) -> None:
    status = _status(folder, name)
    if status is None:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(_bytes(name), dir_fd=folder)
        return
    inner = _open_folder(folder, name)
    if inner is not None:
        try:
            for inside in _listed(inner):
                _remove(inner, inside)
        finally:
            os.close(inner)
    os.rmdir(_bytes(name), dir_fd=folder)


def _put(folder: int, name: str, entry: Entry | None) -> None:
    status = _status(folder, name)
    kind = Kind.MISSING if status is None else _kind(status.st_mode)
    if kind is Kind.OTHER:
        raise GuestError(f"{name!r} in the guest is a device, socket or pipe, and stays as it is")
    if kind is Kind.FOLDER and not isinstance(entry, Folder):
        os.rmdir(_bytes(name), dir_fd=folder)
    match entry:
        case None:
            if kind in (Kind.FILE, Kind.LINK):
                os.unlink(_bytes(name), dir_fd=folder)
        case Folder():
            _put_folder(folder, name, entry, kind)
        case Link(target):
            with _temporary(folder) as temporary:
                os.symlink(_bytes(target), temporary, dir_fd=folder)
                os.rename(temporary, _bytes(name), src_dir_fd=folder, dst_dir_fd=folder)
        case File():
            _put_file(folder, name, entry, kind)


def _put_folder(folder: int, name: str, entry: Folder, kind: Kind) -> None:
    if kind in (Kind.FILE, Kind.LINK):
        os.unlink(_bytes(name), dir_fd=folder)
    if kind is not Kind.FOLDER:
        os.mkdir(_bytes(name), dir_fd=folder)
    opened = os.open(_bytes(name), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        _own(opened, entry)
    finally:
        os.close(opened)


def _put_file(folder: int, name: str, entry: File, kind: Kind) -> None:
    """Write beside the old file and move over it, so that no half-written file is ever there; what an Entry does not name is kept."""
    with _temporary(folder) as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as new:
            new.write(entry.content)
            new.flush()
            if kind is Kind.FILE:
                _copy_attributes(folder, name, new.fileno())
            _own(new.fileno(), entry)
        os.rename(temporary, _bytes(name), src_dir_fd=folder, dst_dir_fd=folder)


def _own(opened: int, entry: File | Folder) -> None:
    if os.geteuid() == 0:
        os.fchown(opened, entry.uid, entry.gid)
    os.fchmod(opened, entry.mode)  # after the owner: chown(2) takes setuid bits away


def _copy_attributes(folder: int, name: str, new: int) -> None:
    old = os.open(_bytes(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        for attribute in os.listxattr(old):
            if attribute not in NOT_KEPT and not attribute.startswith(("trusted.overlay.", "user.overlay.")):
                with suppress(OSError):  # a label that this host does not let us set
                    os.setxattr(new, attribute, os.getxattr(old, attribute))
    finally:
        os.close(old)


@contextmanager
def _temporary(folder: int) -> Iterator[bytes]:
    name = b".magalu-migrate-%d" % os.getpid()
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
    try:
        yield name
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)
