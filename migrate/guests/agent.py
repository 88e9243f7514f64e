"""The files in a cell, reached from outside: a process of ours that entered the cell and answers over a socket.

The outside cannot open them itself: its user does not exist in there. Messages are JSON with a length before them, and bytes behind it; nothing
that comes back is executed or unpickled.
"""

import ctypes
import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from migrate.errors import GuestError
from migrate.guest import Entry, File, Folder, Kind, Link, Status
from migrate.guests.cell import Cell
from migrate.guests.files import FolderFiles
from migrate.guests.labels import Unlabelled, set_labels, unlabelled_below
from migrate.guests.upper import Difference, difference
from migrate.run import Run

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MOST_REPLY = 2 << 30


class AgentFiles:
    """The file part of a Guest, on a folder in a cell."""

    def __init__(self, run: Run, connection: socket.socket, root: str) -> None:
        self._run = run
        self._connection = connection
        self._root = root
        self._lock = threading.Lock()

    def at(self, root: str) -> "AgentFiles":
        """Return the files of another folder of the cell, through the same process."""
        other = AgentFiles(self._run, self._connection, root)
        other._lock = self._lock
        return other

    def kind(self, path: str) -> Kind:
        return Kind(self._ask("kind", path)[0])

    def load(self, path: str) -> Entry:
        return entry_of(*self._ask("load", path))

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(self._ask("names", path)[0])

    def kinds(self, path: str) -> dict[str, Kind]:
        return {name: Kind(kind) for name, kind in self._ask("kinds", path)[0].items()}

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        found: dict[str, str] = self._ask("texts", path, suffix)[0]
        return found

    def statuses(self) -> Mapping[str, Status]:
        found: Mapping[str, list[Any]] = self._ask("statuses", "/")[0]
        return {path: Status(Kind(kind), *rest) for path, (kind, *rest) in found.items()}

    def store(self, path: str, entry: Entry | None) -> None:
        value, content = (None, b"") if entry is None else value_of(entry)
        self._ask("store", path, value, content=content)

    def remove(self, path: str) -> None:
        self._ask("remove", path)

    def difference(self, lower: str) -> Difference:
        """Return how this folder, an overlay's upper, changes `lower`."""
        return Difference(**{key: tuple(paths) for key, paths in self._ask("difference", lower)[0].items()})

    def unlabelled(self) -> tuple[Unlabelled, ...]:
        """Return what has no SELinux label in this folder, an overlay's upper."""
        return tuple(Unlabelled(kind, path) for kind, path in self._ask("unlabelled", "/")[0])

    def label(self, labels: Mapping[str, str]) -> None:
        """The files have these SELinux labels."""
        self._ask("label", dict(labels))

    def _ask(self, what: str, *arguments: Any, content: bytes = b"") -> tuple[Any, bytes]:
        with self._lock:
            self._run.check()
            try:
                send(self._connection, [what, self._root, *arguments], content)
                (answer, error), got = receive(self._connection)
            except (OSError, EOFError) as broken:
                self._run.check()
                raise GuestError(f"the process that reads the guest's files ended: {broken}") from broken
        if error is not None:
            raise GuestError(error)
        return answer, got


@contextmanager
def open_agent(cell: Cell, root: str) -> Iterator[AgentFiles]:
    """Start a process of ours in the cell; leaving ends it."""
    ours, its = socket.socketpair()
    with ours, its:
        argv = [sys.executable, "-m", "migrate.guests.agent", str(cell.pid), str(its.fileno())]
        with cell.run.daemon(argv, ready=lambda: True, pass_fds=(its.fileno(),)):
            its.close()
            yield AgentFiles(cell.run, ours, root)


def main() -> None:
    pid, number = map(int, sys.argv[1:])
    connection = socket.socket(fileno=number)
    _enter(pid)
    while True:
        try:
            request, content = receive(connection)
        except EOFError:
            return
        try:
            answer, got = _do(content, *request)
        except GuestError as error:
            send(connection, [None, error.message], b"")
        except OSError as error:
            send(connection, [None, f"a file of the guest cannot be reached: {error.strerror}"], b"")
        else:
            send(connection, [answer, None], got)


def _enter(pid: int) -> None:
    """Become root of the cell, which is nobody outside; its files are all that is seen from here on. Source: setns(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    opened = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY) for kind in ("user", "mnt")}
    for kind, flag in (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS)):
        if libc.setns(opened[kind], flag) != 0:
            sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
    for descriptor in opened.values():
        os.close(descriptor)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.umask(0o022)


def _do(content: bytes, what: str, root: str, *arguments: Any) -> tuple[Any, bytes]:
    files = FolderFiles(Path(root))
    match what, *arguments:
        case "store", path, value:
            files.store(path, None if value is None else entry_of(value, content))
            return None, b""
        case "remove", path:
            files.remove(path)
            return None, b""
        case "difference", lower:
            found = difference(Path(root), Path(lower))
            return {name: getattr(found, name) for name in Difference.__slots__}, b""
        case "unlabelled", "/":
            return [(each.kind, each.path) for each in unlabelled_below(Path(root))], b""
        case "label", labels:
            set_labels(Path(root), labels)
            return None, b""
    return looked(files, what, *arguments)


class Looked(Protocol):
    """Files that can be looked at."""

    def kind(self, path: str) -> Kind: ...
    def load(self, path: str) -> Entry: ...
    def names(self, path: str) -> tuple[str, ...]: ...
    def statuses(self) -> Mapping[str, Status]: ...
    def kinds(self, path: str) -> Mapping[str, Kind]: ...
    def texts(self, path: str, suffix: str) -> Mapping[str, str]: ...


def looked(files: Looked, what: str, *arguments: Any) -> tuple[Any, bytes]:
    """Answer a question of AgentFiles that changes nothing."""
    match what, *arguments:
        case "kind", path:
            return files.kind(path).value, b""
        case "load", path:
            return value_of(files.load(path))
        case "names", path:
            return files.names(path), b""
        case "statuses", _:
            told = files.statuses().items()
            return {p: [s.kind.value, s.mode, s.uid, s.gid, s.size, s.mark] for p, s in told}, b""
        case "kinds", path:
            return {name: kind.value for name, kind in files.kinds(path).items()}, b""
        case "texts", path, suffix:
            return dict(files.texts(path, suffix)), b""
    raise GuestError(f"nobody answers {what}")


def value_of(entry: Entry) -> tuple[Any, bytes]:
    """Return what a message says of an entry, and the bytes behind it."""
    match entry:
        case File(content, mode, uid, gid):
            return ["file", mode, uid, gid], content
        case Folder(mode, uid, gid):
            return ["folder", mode, uid, gid], b""
        case Link(target):
            return ["link", target], b""


def entry_of(value: Any, content: bytes) -> Entry:
    match value:
        case ["file", mode, uid, gid]:
            return File(content, mode, uid, gid)
        case ["folder", mode, uid, gid]:
            return Folder(mode, uid, gid)
        case ["link", target]:
            return Link(target)
    raise GuestError("the process that reads the guest's files gave no entry")


def send(connection: socket.socket, value: Any, content: bytes) -> None:
    """Send one message: a JSON value, and bytes."""
    text = json.dumps(value).encode()
    connection.sendall(struct.pack(">QQ", len(text), len(content)) + text)
    connection.sendall(content)


def receive(connection: socket.socket) -> tuple[Any, bytes]:
    """Return the next message. Raise EOFError where the other side ended, OSError where the message is too large."""
    sizes = struct.unpack(">QQ", _exactly(connection, 16))
    if sum(sizes) > MOST_REPLY:
        raise OSError("its answer is too large")
    return json.loads(_exactly(connection, sizes[0])), bytes(_exactly(connection, sizes[1]))


def _exactly(connection: socket.socket, count: int) -> bytearray:
    got = bytearray(count)
    view = memoryview(got)
    at = 0
    while at < count:
        step = connection.recv_into(view[at:])
        if not step:
            raise EOFError("it closed the connection")
        at += step
    return got


if __name__ == "__main__":
    main()
