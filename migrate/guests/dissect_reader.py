"""The process that reads a guest's file systems with Dissect, without an appliance, a kernel or FUSE.

What it reads is hostile, so it is shut in once it has its connection to the disk: it opens nothing any more, starts nothing, writes nothing, belongs
to nobody, and has ceilings for memory and time. It answers as migrate.guests.agent does. A broken file system costs one answer, a worse one this process.

Not protected: its answers may be lies of the guest, as a mounted file system's may be; and Dissect's decompressors for btrfs are C.
"""

import codecs
import io
import logging
import os
import re
import resource
import signal
import socket
import stat
import struct
import sys
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any, BinaryIO, cast

from dissect.btrfs.exceptions import Error as BtrfsError
from dissect.extfs.exceptions import Error as ExtError
from dissect.fat.exceptions import Error as FatError
from dissect.xfs.exceptions import Error as XfsError

from migrate.blocks import Disk
from migrate.errors import GuestError, MigrateError
from migrate.guest import Entry, File, Folder, Kind, Link, Status
from migrate.guests.agent import looked, receive, send
from migrate.guests.dissect_trees import BtrfsTree, Node, Tree, tree_of
from migrate.guests.files import MOST_BYTES
from migrate.guests.paths import parts
from migrate.guests.sandbox import FIRST_USER

BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BtrfsError,
    BufferError,
    EOFError,
    ExtError,
    FatError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    StopIteration,
    TypeError,
    ValueError,
    XfsError,
    struct.error,
    zlib.error,
)
"""What Dissect raises on a disk that is not as it should be: it checks little, so that nearly anything may come out."""

SECONDS = 120
"""Processor time for one question; all the files of a guest take some seconds."""
CHUNK = 64 << 10
CHUNKS = 2048
LARGE = 512 << 10
"""Reads from this size on are not remembered."""
LONGEST_TARGET = 4096
"""Of a link, in bytes; Linux makes none longer. Source: symlink(2), PATH_MAX."""
ENCODINGS = ("ascii", "ibm437", "utf-8", "utf-16-le")
MOST_ENTRIES = 4_000_000
DEEPEST = 250
FOLDERS = 4096


class Source:
    """The disk, small reads remembered: inodes and folders lie side by side."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._chunk = lru_cache(CHUNKS)(self._read_chunk)

    def read(self, offset: int, count: int) -> bytes:
        """Return what is there, less at the disk's end."""
        count = min(count, self._disk.size - offset)
        if count <= 0:
            return b""
        if count >= LARGE:
            return bytes(self._disk.read(offset, count))
        chunks = range(offset // CHUNK, (offset + count - 1) // CHUNK + 1)
        content = b"".join(self._chunk(number) for number in chunks)
        start = offset - chunks.start * CHUNK
        return content[start : start + count]

    def _read_chunk(self, number: int) -> bytes:
        offset = number * CHUNK
        return bytes(self._disk.read(offset, min(CHUNK, self._disk.size - offset)))


class Device(io.RawIOBase):
    """A partition or a logical volume: runs of the disk, in bytes, one after the other."""

    def __init__(self, source: Source, runs: Sequence[tuple[int, int]]) -> None:
        self._source = source
        self._runs = tuple(runs)
        self.size = sum(length for _, length in runs)
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence] + offset
        if self._at < 0:
            raise ValueError("a place before the first byte")
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        count = max(0, min(count if count >= 0 else self.size, self.size - self._at))
        if count > MOST_BYTES:
            raise ValueError(f"{count:,} bytes at once")
        pieces = []
        start = 0
        for offset, length in self._runs:
            skipped = max(0, self._at - start)
            if skipped < length and count:
                step = min(length - skipped, count)
                pieces.append(self._source.read(offset + skipped, step))
                self._at += step
                count -= step
            start += length
        return b"".join(pieces)


class TreeFiles:
    """The file part of a Guest that can only be read, on one of its file systems."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self._folder = lru_cache(FOLDERS)(self._read_folder)

    def kind(self, path: str) -> Kind:
        node = self._node(path)
        return Kind.MISSING if node is None else self._kind(node)

    def load(self, path: str) -> Entry:
        node = self._node(path)
        if node is None or (kind := self._kind(node)) is Kind.OTHER:
            raise GuestError(
                f"{path} in the guest cannot be read: it is {(Kind.MISSING if node is None else kind).value}"
            )
        told = self.tree.attributes(node)
        if kind is Kind.LINK:
            if told.size > LONGEST_TARGET:
                raise GuestError(f"{path} in the guest is a link to a name of {told.size:,} bytes")
            return Link(self.tree.target(node))
        if kind is Kind.FOLDER:
            return Folder(stat.S_IMODE(told.mode), told.uid, told.gid)
        if told.size > MOST_BYTES:
            raise GuestError(f"{path} in the guest is {told.size:,} bytes large, and at most {MOST_BYTES:,} are read")
        content = self.tree.open(node).read(told.size)
        if len(content) != told.size:
            raise GuestError(f"{path} in the guest is cut off after {len(content):,} of {told.size:,} bytes")
        return File(bytes(content), stat.S_IMODE(told.mode), told.uid, told.gid)

    def names(self, path: str) -> tuple[str, ...]:
        return tuple(self.kinds(path))

    def kinds(self, path: str) -> Mapping[str, Kind]:
        node = self._node(path)
        if node is None or self._kind(node) is not Kind.FOLDER:
            return {}
        return {name: self._kind(each) for name, each in sorted(self._folder(path).items())}

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        found = {}
        for name in self.names(path):
            if name.endswith(suffix) and isinstance(entry := self.load(f"{path}/{name}"), File):
                found[name] = entry.text
        return found

    def statuses(self) -> Mapping[str, Status]:
        found: dict[str, Status] = {}
        todo: list[tuple[str, Node]] = [("", self.tree.root)]
        while todo:
            above, folder = todo.pop()
            if above.count("/") > DEEPEST:
                raise GuestError(f"folders of the guest are more than {DEEPEST} deep")
            for name, node in self._entries(folder):
                path = f"{above}/{name}"
                found[path] = self._status(node)
                if found[path].kind is Kind.FOLDER:
                    todo.append((path, node))
            if len(found) > MOST_ENTRIES:
                raise GuestError(f"the guest has more than {MOST_ENTRIES:,} files")
        return found

    def immutable(self, paths: Collection[str]) -> list[str]:
        nodes = ((path, self._node(path)) for path in paths)
        return [path for path, node in nodes if node is not None and self.tree.attributes(node).immutable]

    def _status(self, node: Node) -> Status:
        kind, told = self._kind(node), self.tree.attributes(node)
        if kind in (Kind.LINK, Kind.OTHER):
            return Status(kind, 0, 0, 0, 0, told.mark)
        size = told.size if kind is Kind.FILE else 0
        return Status(kind, stat.S_IMODE(told.mode), told.uid, told.gid, size, told.mark)

    def _kind(self, node: Node) -> Kind:
        kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.FOLDER, stat.S_IFLNK: Kind.LINK}
        return kinds.get(self.tree.type(node), Kind.OTHER)

    def _node(self, path: str) -> Node | None:
        node, at = self.tree.root, "/"
        for name in parts(path):
            if self._kind(node) is not Kind.FOLDER:
                return None
            if (found := self._folder(at).get(name)) is None:
                return None
            node, at = found, f"{at.rstrip('/')}/{name}"
        return node

    def _read_folder(self, path: str) -> dict[str, Node]:
        return dict(self._entries(self._node(path)))

    def _entries(self, folder: Node) -> list[tuple[str, Node]]:
        found = [
            (n, node)
            for n, node in self.tree.entries(folder)
            if n not in ("", ".", "..") and not re.search(r"[/\0]", n)
        ]
        if len(found) > MOST_ENTRIES:
            raise GuestError("a folder of the guest has too many files")
        return found


class Complaints(logging.Handler):
    """What Dissect only logs is an error: a folder whose entries end too soon would be taken for a smaller one."""

    def emit(self, record: logging.LogRecord) -> None:
        raise GuestError(f"the guest's file system is damaged: {record.getMessage()[:200]}")


class Reader:
    """Answers questions about the devices of a disk, each by a name that the other side gave it."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._opened: dict[str, TreeFiles] = {}

    def answer(self, what: str, name: str, *arguments: Any) -> tuple[Any, bytes]:
        match what, *arguments:
            case "open", runs, kind, subvolume:
                device = Device(self._source, [(int(offset), int(length)) for offset, length in runs])
                tree = tree_of(str(kind), cast(BinaryIO, device), subvolume)
                self._opened[name] = TreeFiles(tree)
                is_read_only = isinstance(tree, BtrfsTree) and tree.is_read_only
                return {"free": tree.free, "stale": tree.stale, "read_only": is_read_only}, b""
            case "immutable", paths:
                return self._opened[name].immutable(paths), b""
        return looked(self._opened[name], what, *arguments)


def main() -> None:
    uri, number = sys.argv[1], int(sys.argv[2])
    logging.getLogger("dissect").addHandler(Complaints(logging.CRITICAL))
    connection = socket.socket(fileno=number)
    with Disk(uri) as disk:
        _shut_in()
        reader = Reader(Source(disk))
        while True:
            try:
                request, _ = receive(connection)
            except EOFError:
                return
            answer, error, content = _answered(lambda request=request: reader.answer(*request))  # type: ignore[misc]
            send(connection, [answer, error], content)


def _shut_in() -> None:
    """No new file, socket, process or written byte from here on, and no right over what others have. Source: setrlimit(2)."""
    os.chdir("/")
    for encoding in ENCODINGS:
        codecs.lookup(encoding)  # Python would load them when they are first used
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(FIRST_USER, FIRST_USER, FIRST_USER)
        os.setresuid(FIRST_USER, FIRST_USER, FIRST_USER)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (lowest, lowest)
    )  # all below it are taken; poll(2) allows no smaller one
    for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))
    signal.signal(signal.SIGPROF, _too_long)


class TooLong(GuestError):
    """A question took more processor time than any honest file system needs."""


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TooLong(f"the guest's file system was not read after {SECONDS} s of work: it is damaged, or made to be so")


def _answered(question: Callable[[], tuple[Any, bytes]]) -> tuple[Any, str | None, bytes]:
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        answer, content = question()
        return answer, None, content
    except MigrateError as error:
        return None, error.message, b""
    except BROKEN as error:
        return None, f"the guest's file system cannot be read: {type(error).__name__}: {str(error)[:200]}", b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
