"""A disk behind an NBD endpoint, read in large pieces over several connections, without what reads as zeros.

Source: the NBD protocol, "base:allocation"; libnbd(3).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import nbd

from migrate.errors import MigrateError

CONTEXT = "base:allocation"
READS_AS_ZEROS = 1 << 1
QUERY = 1 << 30
"""How much one question about extents covers; a server answers for less where it likes."""
REQUEST = 4 << 20
"""The largest read: servers must take 32 MiB, and qemu-nbd is fastest with a few MiB."""


Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Span:
    """A run of the disk that is not known to read as zeros, in bytes."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        return self.offset + self.length


class Disk:
    """An open NBD export. Any thread may read: each has a connection of its own."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._local = threading.local()
        self._opened: list[nbd.NBD] = []
        self._lock = threading.Lock()
        self.size = int(self._connection().get_size())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for connection in self._opened:  # its memory goes with its last name
            with suppress(nbd.Error):  # the server may have gone first
                connection.shutdown()

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """Return bytes of the disk, without a further copy. Raise MigrateError where the server refuses or is gone."""
        pieces = [self._piece(at, min(REQUEST, offset + length - at)) for at in range(offset, offset + length, REQUEST)]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _piece(self, offset: int, length: int) -> bytes | bytearray:
        content: bytes | bytearray = self._asked(lambda link: link.pread(length, offset), f"{length} B at {offset}")
        return content

    def extents(self) -> Iterator[Span]:
        """Yield what must be read, in order, runs that touch joined. A server that cannot tell yields the whole disk."""
        start = at = 0
        while at < self.size:
            for length, flags in self._status(at):
                if flags & READS_AS_ZEROS:
                    if start < at:
                        yield Span(start, at - start)
                    start = at + length
                at += length
        if start < self.size:
            yield Span(start, self.size - start)

    def _status(self, offset: int) -> Sequence[tuple[int, int]]:
        """Return runs of (bytes, flags) from an offset on, at least one byte, none beyond the disk's end."""
        length = min(QUERY, self.size - offset)
        link = self._connection()
        if not link.can_meta_context(CONTEXT):
            return ((length, 0),)
        found: list[tuple[int, int]] = []

        def note(context: str, _offset: int, entries: list[int], _error: object) -> int:
            if context == CONTEXT:
                found.extend(zip(entries[::2], entries[1::2], strict=True))
            return 0

        self._asked(lambda link: link.block_status(length, offset, note), f"extents at {offset}")
        runs: list[tuple[int, int]] = []
        for run, flags in found:
            run = min(run, self.size - offset)
            if run > 0:
                runs.append((run, flags))
                offset += run
        if not runs:
            raise MigrateError(
                f"the NBD server tells no extent at offset {offset}, though the disk has {self.size} bytes"
            )
        return runs

    def _asked(self, question: Callable[[nbd.NBD], Answer], what: str) -> Answer:
        try:
            return question(self._connection())
        except nbd.Error as error:
            raise MigrateError(
                f"the disk cannot be read ({what}): {error}",
                hint="Run the same command again: what is finished is kept.",
            ) from error

    def _connection(self) -> nbd.NBD:
        link: nbd.NBD | None = getattr(self._local, "link", None)
        if link is None:
            link = self._local.link = self._connected()
            with self._lock:
                self._opened.append(link)
        return link

    def _connected(self) -> nbd.NBD:
        link = nbd.NBD()
        link.set_pread_initialize(False)  # pread fills the whole buffer or fails; saves a memset of each
        link.add_meta_context(CONTEXT)
        try:
            link.connect_uri(self._uri)
        except nbd.Error as error:
            raise MigrateError(f"cannot connect to {self._uri}: {error}") from error
        return link


def answers(uri: str) -> bool:
    """Whether an export is there to be read. A socket alone says little: qemu-nbd listens before it opens its image."""
    try:
        with Disk(uri):
            return True
    except MigrateError:
        return False
