"""The files of a source, opened once and then only used through their file descriptors.

Between a check by name and a use by name the name can come to mean another file. So a name is resolved once; what is
checked, hashed and given to qemu (as /proc/PID/fd/N) is the same open file.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason, SourceError


@dataclass(frozen=True, slots=True)
class Identity:
    """Which file it is, and what changes with its content. Times are in nanoseconds."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file that is open for reading. `path` is its place, `ctime_ns` the time of its last change of any kind."""

    path: Path
    descriptor: int
    identity: Identity
    ctime_ns: int

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def size(self) -> int:
        return self.identity.size

    @property
    def proc_path(self) -> str:
        """A name of this very open file for our children; it leads nowhere else, whatever happens to `path`."""
        return f"/proc/{os.getpid()}/fd/{self.descriptor}"

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes; fewer only at the file's end."""
        parts: list[bytes] = []
        while length > 0:
            try:
                part = os.pread(self.descriptor, length, offset)
            except OSError as error:
                raise SourceError(
                    f"{printable(str(self.path))}: reading at byte {offset} failed: {error.strerror}",
                    hint="Check the medium that it is on.",
                ) from error
            if not part:
                break
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return b"".join(parts)

    def check_untouched(self) -> None:
        """Raise SourceError where anything happened to the file since it was opened, be it a rename.

        Unlike mtime, the time of the last change (ctime) cannot be set back by whoever writes.
        """
        self._check(os.fstat(self.descriptor).st_ctime_ns == self.ctime_ns)

    def check_unchanged(self) -> None:
        """Raise SourceError where the file was written to since it was opened."""
        self._check(True)

    def _check(self, holds: bool) -> None:
        now = os.fstat(self.descriptor)
        if _identity(now) != self.identity or not holds:
            raise SourceError(
                f"{printable(str(self.path))} was changed while it was read: {self.size} bytes before, {now.st_size} now.",
                hint="Stop what writes to it (is the VM still running?) and start again.",
            )


@dataclass(frozen=True, slots=True)
class Window:
    """A run of bytes of an open file, under a name: the whole file, or a member of an archive."""

    file: OpenFile
    name: str
    offset: int
    size: int

    def read(self, offset: int, length: int) -> bytes:
        """Return up to `length` bytes from `offset` within the window; fewer at its end, none before or behind it."""
        if offset < 0 or offset >= self.size:
            return b""
        return self.file.read(self.offset + offset, min(length, self.size - offset))

    @property
    def is_whole_file(self) -> bool:
        return self.offset == 0 and self.size == self.file.size


def whole(file: OpenFile) -> Window:
    return Window(file, file.name, 0, file.size)


class Folder:
    """A folder that is held open; its files are opened by plain names, once each, and closed with it."""

    def __init__(self, path: Path, descriptor: int, stack: ExitStack) -> None:
        self.path = path
        self._descriptor = descriptor
        self._stack = stack
        self._files: dict[str, OpenFile] = {}

    @property
    def files(self) -> tuple[OpenFile, ...]:
        """The files that were opened so far, by name."""
        return tuple(self._files[name] for name in sorted(self._files))

    def names(self) -> list[str]:
        try:
            return sorted(each.name for each in Path(f"/proc/self/fd/{self._descriptor}").iterdir())
        except OSError as error:
            raise SourceError(f"the folder {printable(str(self.path))} cannot be read: {error.strerror}.") from error

    def file(self, name: str) -> OpenFile:
        """Open a regular file of this folder by a name that a stranger wrote. Links are not followed: they may lead anywhere.

        Raise NotMigratable where the name is not plain, or it is not there or not a regular file, SourceError where it may
        not be read.
        """
        if not is_plain(name):
            shown = printable(name)
            reason = Reason(
                Code.NAME, f'"{shown}" is not the plain name of a file', "Put all files of the VM in one folder."
            )
            raise NotMigratable(shown, [reason])
        return self.file_of_user(name)

    def file_of_user(self, name: str) -> OpenFile:
        """As `file`, by the last part of a path that the user gave: it may hold what a shell can write."""
        if name not in self._files:
            self._files[name] = self._opened(name)
        return self._files[name]

    def memory(self, name: str, content: bytes = b"", size: int | None = None) -> str:
        """Return the path of a nameless file in memory with this content, followed by zeros up to `size`."""
        descriptor = os.memfd_create(name)
        self._stack.callback(os.close, descriptor)
        os.write(descriptor, content)
        if size is not None:
            os.truncate(descriptor, size)
        return f"/proc/{os.getpid()}/fd/{descriptor}"

    def _opened(self, name: str) -> OpenFile:
        shown = printable(name)
        try:
            # O_PATH only finds it: opening a FIFO would wait, opening a device may do something.
            found = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._descriptor)
        except FileNotFoundError as error:
            raise NotMigratable(
                shown,
                [Reason(Code.MISSING, f'"{shown}" is not in {printable(str(self.path))}', "Put it beside the others.")],
            ) from error
        except (OSError, ValueError) as error:
            raise SourceError(f"{shown} in {printable(str(self.path))} cannot be opened: {error}") from error
        try:
            kind = _kind(os.fstat(found).st_mode)
            if kind is not None:
                remedy = "Give the file that it leads to, or a copy." if kind == "a symbolic link" else "Give a file."
                raise NotMigratable(shown, [Reason(Code.NOT_A_FILE, f'"{shown}" is {kind}, not a file', remedy)])
            try:
                descriptor = os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
            except OSError as error:
                raise SourceError(
                    f"{shown} in {printable(str(self.path))} cannot be read: {error.strerror}.",
                    hint="Give this user the right to read it.",
                ) from error
        finally:
            os.close(found)
        self._stack.callback(os.close, descriptor)
        status = os.fstat(descriptor)
        return OpenFile(self.path / name, descriptor, _identity(status), status.st_ctime_ns)


@contextmanager
def folder(path: Path) -> Iterator[Folder]:
    """Hold a folder open, and what is opened in it."""
    with ExitStack() as stack:
        try:
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SourceError(f"{printable(str(path))} cannot be opened: {error.strerror}.") from error
        stack.callback(os.close, descriptor)
        yield Folder(path, descriptor, stack)


def is_plain(name: str) -> bool:
    """Whether it names a file in its folder and nothing else, and is printable."""
    return name not in ("", ".", "..") and "/" not in name and "\\" not in name and name.isprintable()


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)


def _kind(mode: int) -> str | None:
    """What it is, in words, where it is not a regular file."""
    for is_it, words in (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISCHR, "a character device"),
    ):
        if is_it(mode):
            return words
    return None if stat.S_ISREG(mode) else "something else"
