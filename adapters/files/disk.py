"""A disk of a file as a BlockSource: served read-only by qemu-nbd on a unix socket, each time by a server of its own."""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbd

from adapters.files.image import Image
from adapters.files.opened import OpenFile
from adapters.files.qemu import filename, refusal
from migrate.errors import SourceError, ToolFailed
from migrate.nbd import socket_uri
from migrate.run import Limits, Run
from migrate.source import Extent

CLIENTS = 64
"""Connections at a time, like every server of ours: one that finds no place waits for ever. Our stream opens up to 17, nbdcopy four."""

LONGEST_SOCKET = 107
"""Bytes of a socket's path, unix(7)."""

SERVE = Limits(address_space=4 << 30)
"""Of which qemu-nbd uses 0.3 GiB for itself and its threads, and up to 0.5 GiB for the tables of 64 TiB."""

READY_S = 60.0
GREETING = b"NBDMAGIC"
MOST_AT_ONCE = 1 << 30
"""Bytes per block-status request; the protocol ends at 4 GiB."""


@dataclass(frozen=True, slots=True)
class FileDisk:
    """`files` are all that the image is read from; they stay open as long as the disk is used."""

    run: Run
    image: Image
    files: tuple[OpenFile, ...]

    @property
    def name(self) -> str:
        return self.image.name

    @property
    def size(self) -> int:
        return self.image.size

    def extents(self) -> Iterator[Extent]:
        """Yield the whole disk in order, without gaps, in bytes; neighbours of a kind are one. A server runs meanwhile.

        Source: NBD protocol, "base:allocation" metadata context: bit 1 is "reads as zeros".
        """
        with self.nbd() as uri:
            offset, length, zero = 0, 0, False
            for run_length, is_zero in _statuses(uri, self.size):
                self.run.check()
                if length and is_zero is not zero:
                    yield Extent(offset, length, zero)
                    offset, length = offset + length, 0
                length, zero = length + run_length, is_zero
            if length:
                yield Extent(offset, length, zero)

    @contextmanager
    def nbd(self) -> Iterator[str]:
        """Serve the disk; the block sees its URI. Raise SourceError where a file of it changes while it is served.

        A file that shrinks would not be noticed otherwise: qemu reads zeros behind the end.
        """
        self._check_untouched()
        with ExitStack() as stack:
            folder = stack.enter_context(_private_folder(self.run.work))
            place = folder / "s"
            words = ["qemu-nbd", "--read-only", "--persistent", f"--shared={CLIENTS}", "--socket", str(place)]
            try:
                stack.enter_context(
                    self.run.daemon(
                        [*words, filename(self.image.node)],
                        ready=lambda: _greets(place),
                        timeout=READY_S,
                        limits=SERVE,
                        log=folder / "log",
                    )
                )
            except ToolFailed as failed:
                raise refusal(self.image, failed) from failed
            # It greets once it has opened everything: the headers that we checked are those that it has read.
            self._check_untouched()
            uri = socket_uri(place)
            self._check_size(uri)
            yield uri
            for file in self.files:
                file.check_unchanged()

    def _check_untouched(self) -> None:
        for file in self.files:
            file.check_untouched()

    def _check_size(self, uri: str) -> None:
        with _client(uri) as client:
            size = client.get_size()
        if size != self.size:
            raise SourceError(f"{self.name}: qemu-nbd serves {size} bytes, the disk has {self.size}.")


@contextmanager
def _client(uri: str) -> Iterator[nbd.NBD]:
    """A connection that knows block status; its errors are ours."""
    client = nbd.NBD()
    client.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    try:
        client.connect_uri(uri)
        yield client
        client.shutdown()
    except nbd.Error as error:
        raise SourceError(f"the server of the disk does not answer: {error}") from error


def _statuses(uri: str, size: int) -> Iterator[tuple[int, bool]]:
    """Lengths in bytes of the runs of the disk, and whether each reads as zeros."""
    with _client(uri) as client:
        yield from _asked(client, size)


def _asked(client: nbd.NBD, size: int) -> Iterator[tuple[int, bool]]:
    position = 0
    while position < size:
        runs: list[tuple[int, bool]] = []

        def noted(
            context: str, offset: int, entries: list[int], error: object, runs: list[tuple[int, bool]] = runs
        ) -> int:
            runs += [
                (length, bool(flags & nbd.STATE_ZERO))
                for length, flags in zip(entries[::2], entries[1::2], strict=True)
            ]
            return 0

        client.block_status(min(MOST_AT_ONCE, size - position), position, noted)
        if not runs:
            raise SourceError(f"qemu-nbd tells nothing of the disk from byte {position} on.")
        for length, zero in runs:
            length = min(length, size - position)  # the last run of an answer may reach behind what was asked
            if length:
                yield length, zero
            position += length


def _greets(place: Path) -> bool:
    """Whether the server talks. It listens before it has opened the image, and greets after."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect(str(place))
            return connection.recv(len(GREETING)) == GREETING
        except OSError:
            return False


@contextmanager
def _private_folder(work: Path) -> Iterator[Path]:
    """A new folder that only we may enter (mode 0700), in the run's folder, or in /tmp where that one's path is too long."""
    work.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="nbd-", dir=work))
    try:
        if len(bytes(folder / "s")) <= LONGEST_SOCKET:
            yield folder
        else:
            with tempfile.TemporaryDirectory(prefix="magalu-migrate-", dir="/tmp") as short:
                yield Path(short)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
