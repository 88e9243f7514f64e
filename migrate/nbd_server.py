"""A disk that is read over a network, served to local programs as an NBD export on a unix socket, read-only.

    with served_disk(run, disk, cache) as uri:
        …                                     # nbd+unix, any number of connections, extents included

Units of the disk that were read are kept in a sparse file until it has `CACHE_BYTES`: looking, repairing, booting and copying read the same places. A
disk's own error comes out of the block instead of the EIO that a client of NBD sees.
Source of the protocol: the NBD specification, doc/proto.md; clients here are qemu and libnbd.
"""

import errno
import os
import socket
import struct
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from migrate.errors import MigrateError, Stopped
from migrate.nbd import socket_uri
from migrate.run import Run
from migrate.source import Extent

CACHE_BYTES = 3 << 30
MOST_AT_ONCE = 4 << 20
"""The largest single read of a disk."""
WORKERS = 8
"""Requests of one connection that are answered at a time: qemu sends sixteen, and a remote source answers each after its latency."""


class RemoteDisk(Protocol):
    """One frozen disk. Reads come from several threads, begin at a multiple of `unit` and end at one, or at the disk's end."""

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int:
        """Bytes that the guest sees."""

    @property
    def unit(self) -> int:
        """What is fetched at least, in bytes: a power of two."""

    def extents(self) -> Iterator[Extent]:
        """Yield the whole disk in order, without gaps. What is zero is never asked for."""

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly so many bytes. Raise MigrateError where they cannot be had any more."""


class CachedDisk:
    """A remote disk with what was read of it. `fetched` counts the bytes that were really asked for."""

    def __init__(self, disk: RemoteDisk, cache: Path) -> None:
        self._disk = disk
        self.size = disk.size
        self._unit = disk.unit
        self.extents = tuple(_joined(disk.extents()))
        self._starts = [extent.offset for extent in self.extents]
        self._descriptor = os.open(cache, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(self._descriptor, self.size)
        self._kept: set[int] = set()
        self._written = 0
        self._on_the_way: dict[int, threading.Event] = {}
        self._lock = threading.Lock()
        self.fetched = 0

    def close(self) -> None:
        os.close(self._descriptor)

    def status(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of a range, cut to it."""
        index = bisect_right(self._starts, offset) - 1
        end = offset + length
        while offset < end:
            extent = self.extents[index]
            stop = min(end, extent.offset + extent.length)
            yield Extent(offset, stop - offset, extent.zero)
            offset, index = stop, index + 1

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(
            bytes(piece.length) if piece.zero else self._read(piece.offset, piece.length)
            for piece in self.status(offset, length)
        )

    def _read(self, offset: int, length: int) -> bytes:
        first, last = offset // self._unit, (offset + length - 1) // self._unit
        found: dict[int, bytes] = {}
        while missing := [unit for unit in range(first, last + 1) if unit not in found]:
            ours, theirs, kept = self._claim(missing)
            for unit in kept:
                found[unit] = os.pread(self._descriptor, self._length(unit), unit * self._unit)
            try:
                for start, count in _runs(ours, MOST_AT_ONCE // self._unit):
                    found |= self._fetch(start, count)
            finally:
                self._let_go(ours)
            for event in theirs:  # somebody else is fetching it; if that failed, or was not kept, it is asked for again
                event.wait()
        whole = b"".join(found[unit] for unit in range(first, last + 1))
        skip = offset - first * self._unit
        return whole[skip : skip + length]

    def _claim(self, units: list[int]) -> tuple[list[int], list[threading.Event], list[int]]:
        with self._lock:
            kept = [unit for unit in units if unit in self._kept]
            theirs = [self._on_the_way[unit] for unit in units if unit in self._on_the_way]
            ours = [unit for unit in units if unit not in self._kept and unit not in self._on_the_way]
            for unit in ours:
                self._on_the_way[unit] = threading.Event()
            return ours, theirs, kept

    def _let_go(self, units: list[int]) -> None:
        with self._lock:
            for unit in units:
                self._on_the_way.pop(unit).set()

    def _fetch(self, start: int, count: int) -> dict[int, bytes]:
        offset = start * self._unit
        length = min(count * self._unit, self.size - offset)
        content = self._disk.read(offset, length)
        if len(content) != length:
            raise MigrateError(f"{self._disk.name}: {length} bytes at {offset} were asked for, and {len(content)} came")
        units = {start + place: content[place * self._unit : (place + 1) * self._unit] for place in range(count)}
        with self._lock:
            self.fetched += length
            room = CACHE_BYTES - self._written
        if not content.strip(b"\0"):  # of a disk that cannot tell its holes: the file has one there by itself
            with self._lock:
                self._kept.update(units)
        elif room >= length:
            with suppress(OSError):  # no room on the disk: it is read again, which costs time only
                os.pwrite(self._descriptor, content, offset)
                with self._lock:
                    self._kept.update(units)
                    self._written += length
        return units

    def _length(self, unit: int) -> int:
        return min(self._unit, self.size - unit * self._unit)


@contextmanager
def served_disk(run: Run, disk: RemoteDisk) -> Iterator[str]:
    """Serve the disk while the block lasts; yield the URI. An error of the disk's comes out of the block."""
    with TemporaryDirectory(prefix="disk-", dir=run.work) as folder:
        cached = CachedDisk(disk, Path(folder) / "cache")
        path = Path(folder) / "disk.sock"
        server = _Server(run, cached, path)
        server.start()
        try:
            yield socket_uri(path)
        except MigrateError as error:
            if server.failure is not None and not isinstance(error, Stopped):
                raise server.failure from error
            raise
        finally:
            server.end()
            cached.close()


# The protocol's numbers

GREETING = b"NBDMAGIC"
OPTION = b"IHAVEOPT"
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
REPLY_MAGIC = 0x3E889045565A9
ACK, SERVER, INFO_REPLY, META_CONTEXT, UNSUPPORTED, INVALID = 1, 2, 3, 4, (1 << 31) + 1, (1 << 31) + 3
EXPORT_FLAGS = 1 | 2 | 256  # has flags, read-only, several connections see the same
REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC, SIMPLE_MAGIC, CHUNK_MAGIC = 0x25609513, 0x67446698, 0x668E33EF
READ, DISCONNECT, FLUSH, BLOCK_STATUS = 0, 2, 3, 7
ONE_EXTENT = 8
DONE, DATA, STATUS, ERROR = 1, 1, 5, (1 << 15) + 1
CONTEXT, CONTEXT_ID = b"base:allocation", 1
HOLE_OF_ZEROS = 3
LONGEST = 32 << 20
LONGEST_OPTION = 64 << 10
MOST_EXTENTS = 4096


class _Option(IntEnum):
    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class _Server:
    def __init__(self, run: Run, disk: CachedDisk, path: Path) -> None:
        self._run = run
        self._disk = disk
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.failure: MigrateError | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._accept, name="nbd", daemon=True)
        self._thread.start()

    def end(self) -> None:
        for one in (self._listener, *self._connections):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        threads: list[threading.Thread] = []
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            with self._lock:
                self._connections.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), name="nbd-client", daemon=True)
            thread.start()
            threads = [one for one in threads if one.is_alive()] + [thread]
        for thread in threads:
            thread.join()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError, struct.error):
            client = _Client(connection, self._disk, self._failed)
            if client.negotiated():
                client.answer_all()
        with self._lock:
            self._connections.discard(connection)

    def _failed(self, error: MigrateError) -> None:
        with self._lock:
            self.failure = self.failure or error


class _Client:
    """One connection."""

    def __init__(self, connection: socket.socket, disk: CachedDisk, failed: Callable[[MigrateError], None]) -> None:
        self._socket = connection
        self._disk = disk
        self._failed = failed
        self._structured = False
        self._tells_extents = False
        self._sending = threading.Lock()

    def negotiated(self) -> bool:
        """Whether the client wants to go on with the disk."""
        self._socket.sendall(GREETING + OPTION + struct.pack(">H", FIXED_NEWSTYLE | NO_ZEROES))
        no_zeroes = struct.unpack(">I", self._exactly(4))[0] & NO_ZEROES
        while True:
            magic, option, length = struct.unpack(">8sII", self._exactly(16))
            if magic != OPTION or length > LONGEST_OPTION:
                return False
            data = self._exactly(length)
            match option:
                case _Option.EXPORT_NAME:
                    self._socket.sendall(
                        struct.pack(">QH", self._disk.size, EXPORT_FLAGS) + bytes(0 if no_zeroes else 124)
                    )
                    return True
                case _Option.ABORT:
                    self._reply(option, ACK)
                    return False
                case _Option.LIST:
                    self._reply(option, SERVER, struct.pack(">I", 0))
                    self._reply(option, ACK)
                case _Option.INFO | _Option.GO:
                    self._reply(option, INFO_REPLY, struct.pack(">HQH", 0, self._disk.size, EXPORT_FLAGS))
                    self._reply(option, INFO_REPLY, struct.pack(">HIII", 3, 1, 64 << 10, LONGEST))
                    self._reply(option, ACK)
                    if option == _Option.GO:
                        return True
                case _Option.STRUCTURED_REPLY:
                    self._structured = True
                    self._reply(option, ACK)
                case _Option.LIST_META_CONTEXT | _Option.SET_META_CONTEXT:
                    self._meta_context(option, data)
                case _:
                    self._reply(option, UNSUPPORTED)

    def _meta_context(self, option: int, data: bytes) -> None:
        try:
            name_length = struct.unpack_from(">I", data)[0]
            count = struct.unpack_from(">I", data, 4 + name_length)[0]
            queries, at = [], 8 + name_length
            for _ in range(count):
                length = struct.unpack_from(">I", data, at)[0]
                queries.append(data[at + 4 : at + 4 + length])
                at += 4 + length
        except struct.error:
            self._reply(option, INVALID)
            return
        if CONTEXT in queries or (option == _Option.LIST_META_CONTEXT and not queries):
            self._tells_extents = self._tells_extents or option == _Option.SET_META_CONTEXT
            self._reply(option, META_CONTEXT, struct.pack(">I", CONTEXT_ID) + CONTEXT)
        self._reply(option, ACK)

    def answer_all(self) -> None:
        with ThreadPoolExecutor(WORKERS, "nbd-read") as pool:
            while True:
                magic, flags, kind, cookie, offset, length = REQUEST.unpack(self._exactly(REQUEST.size))
                if magic != REQUEST_MAGIC or kind == DISCONNECT:
                    return
                pool.submit(self._answered, flags, kind, cookie, offset, length)

    def _answered(self, flags: int, kind: int, cookie: int, offset: int, length: int) -> None:
        with suppress(OSError):  # the client has gone
            if kind == FLUSH:
                self._simple(cookie, 0)
            elif kind not in (READ, BLOCK_STATUS):
                self._error(cookie, errno.EPERM)
            elif not 0 < length <= (LONGEST if kind == READ else 1 << 32) or offset + length > self._disk.size:
                self._error(cookie, errno.EINVAL)
            elif kind == BLOCK_STATUS:
                self._extents(cookie, offset, length, only_one=bool(flags & ONE_EXTENT))
            else:
                self._data(cookie, offset, length)

    def _data(self, cookie: int, offset: int, length: int) -> None:
        try:
            content = self._disk.read(offset, length)
        except MigrateError as error:
            self._failed(error)
            self._error(cookie, errno.EIO)
            return
        if self._structured:
            self._chunk(DATA, cookie, struct.pack(">Q", offset), content)
        else:
            self._simple(cookie, 0, content)

    def _extents(self, cookie: int, offset: int, length: int, *, only_one: bool) -> None:
        if not self._tells_extents:
            self._error(cookie, errno.EINVAL)
            return
        found = []
        for extent in self._disk.status(offset, length):
            found.append(struct.pack(">II", extent.length, HOLE_OF_ZEROS if extent.zero else 0))
            if only_one or len(found) == MOST_EXTENTS:
                break
        self._chunk(STATUS, cookie, struct.pack(">I", CONTEXT_ID), b"".join(found))

    def _error(self, cookie: int, number: int) -> None:
        if self._structured:
            self._chunk(ERROR, cookie, struct.pack(">IH", number, 0), b"")
        else:
            self._simple(cookie, number)

    def _simple(self, cookie: int, error: int, content: bytes = b"") -> None:
        with self._sending:
            self._socket.sendall(struct.pack(">IIQ", SIMPLE_MAGIC, error, cookie))
            self._socket.sendall(content)

    def _chunk(self, kind: int, cookie: int, head: bytes, content: bytes) -> None:
        length = len(head) + len(content)
        with self._sending:
            self._socket.sendall(struct.pack(">IHHQI", CHUNK_MAGIC, DONE, kind, cookie, length) + head)
            self._socket.sendall(content)

    def _reply(self, option: int, kind: int, data: bytes = b"") -> None:
        self._socket.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)

    def _exactly(self, count: int) -> bytes:
        content = bytearray()
        while len(content) < count:
            piece = self._socket.recv(count - len(content))
            if not piece:
                raise EOFError
            content += piece
        return bytes(content)


def _joined(extents: Iterator[Extent]) -> Iterator[Extent]:
    """Join neighbours of one kind."""
    last: Extent | None = None
    for extent in extents:
        if last is not None and last.zero == extent.zero and last.offset + last.length == extent.offset:
            last = Extent(last.offset, last.length + extent.length, extent.zero)
            continue
        if last is not None:
            yield last
        last = extent
    if last is not None:
        yield last


def _runs(units: list[int], most: int) -> Iterator[tuple[int, int]]:
    """Join neighbouring numbers to (first, how many), at most `most` each."""
    start = count = 0
    for unit in units:
        if count and unit == start + count and count < max(1, most):
            count += 1
            continue
        if count:
            yield start, count
        start, count = unit, 1
    if count:
        yield start, count
