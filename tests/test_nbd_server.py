"""Our NBD server before its real clients: libnbd, qemu-img and nbdkit."""

import random
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from migrate.blocks import Disk, Span
from migrate.errors import MigrateError, SourceError
from migrate.nbd import counted, socket_path
from migrate.nbd_server import MOST_AT_ONCE, served_disk
from migrate.run import Run
from migrate.source import Extent

KIB, MIB = 1 << 10, 1 << 20


@dataclass
class Remote:
    """A disk in memory that is asked as one over a network is: whole units, never what is zero, by several threads."""

    content: bytes
    unit: int = 64 * KIB
    name: str = "remote"
    dead: bool = False
    asked: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def size(self) -> int:
        return len(self.content)

    def extents(self) -> Iterator[Extent]:
        for at in range(0, self.size, self.unit):
            piece = self.content[at : at + self.unit]
            yield Extent(at, len(piece), not any(piece))

    def read(self, offset: int, length: int) -> bytes:
        if self.dead:
            raise SourceError("remote: the session has ended", hint="Log in again.")
        with self.lock:
            self.asked.append((offset, length))
        return self.content[offset : offset + length]


class Blind(Remote):
    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size, False)


@pytest.fixture
def remote() -> Remote:
    noise = random.Random(7)  # noqa: S311
    content = bytearray(24 * MIB + 512)
    for at in (0, 3 * MIB + 5, 9 * MIB, 24 * MIB):
        content[at : at + 900 * KIB] = noise.randbytes(900 * KIB)
    return Remote(bytes(content[: 24 * MIB + 512]))


def test_qemu_reads_the_same_disk(run: Run, remote: Remote) -> None:
    copy = run.work / "copy.raw"
    with served_disk(run, remote) as uri:
        run.tool(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, copy])
        run.tool(["qemu-img", "compare", "-f", "raw", "-F", "raw", uri, copy])
    assert copy.read_bytes() == remote.content


def test_extents_are_told_and_zeros_are_never_fetched(run: Run, remote: Remote) -> None:
    with served_disk(run, remote) as uri, Disk(uri) as disk:
        spans = tuple(disk.extents())
        assert disk.read(0, disk.size) == remote.content
    zeros = [(e.offset, e.length) for e in remote.extents() if e.zero]
    assert sum(span.length for span in spans) == remote.size - sum(length for _, length in zeros)
    assert spans[0] == Span(0, 15 * 64 * KIB)
    fetched = sum(length for _, length in remote.asked)
    assert fetched == sum(span.length for span in spans)
    assert all(offset % remote.unit == 0 for offset, _ in remote.asked)
    assert max(length for _, length in remote.asked) <= MOST_AT_ONCE


def test_what_was_read_is_not_fetched_again_by_any_client(run: Run, remote: Remote) -> None:
    with served_disk(run, remote) as uri:
        for _ in range(2):
            with Disk(uri) as disk, ThreadPoolExecutor(8) as pool:
                places = [(at, 200 * KIB) for at in range(0, 900 * KIB, 50 * KIB)] * 2
                read = list(pool.map(lambda place: disk.read(*place), places))
                assert read == [remote.content[at : at + length] for at, length in places]
    assert (
        sum(length for _, length in remote.asked)
        == len({u for o, n in remote.asked for u in range(o, o + n, 65536)}) * 65536
    )
    assert len(remote.asked) == len(set(remote.asked))


def test_zeros_of_a_disk_that_cannot_tell_them_are_kept_and_take_no_room(run: Run) -> None:
    blind = Blind(bytes(16 * MIB) + b"data".ljust(MIB, b"-") + bytes(15 * MIB))
    with served_disk(run, blind) as uri, Disk(uri) as disk:
        for _ in range(2):
            assert b"".join(disk.read(at, 4 * MIB) for at in range(0, 32 * MIB, 4 * MIB)) == blind.content
        (cache,) = run.work.glob("disk-*/cache")
        assert cache.stat().st_blocks * 512 <= 4 * MIB
    assert sum(length for _, length in blind.asked) == 32 * MIB


def test_reads_of_any_offset_and_length_are_exact(run: Run, remote: Remote) -> None:
    chance = random.Random(3)  # noqa: S311
    with served_disk(run, remote) as uri, Disk(uri) as disk:
        for _ in range(300):
            offset = chance.randrange(remote.size)
            length = min(chance.choice([1, 511, 4096, 70_000, 5 * MIB]), remote.size - offset)
            assert disk.read(offset, length) == remote.content[offset : offset + length]


def test_an_error_of_the_disk_comes_out_in_its_own_words(run: Run, remote: Remote) -> None:
    with pytest.raises(SourceError, match="the session has ended"), served_disk(run, remote) as uri, Disk(uri) as disk:
        assert disk.read(0, 16) == remote.content[:16]
        remote.dead = True
        assert disk.read(0, 16) == remote.content[:16], "what was read is kept"
        disk.read(9 * MIB, 16)


def test_another_error_in_the_block_is_not_taken_for_the_disk_s(run: Run, remote: Remote) -> None:
    with pytest.raises(MigrateError, match="something else"), served_disk(run, remote):
        raise MigrateError("something else")


def test_it_goes_through_the_counter_and_leaves_nothing(run: Run, remote: Remote) -> None:
    with served_disk(run, remote) as uri, counted(run, uri) as disk:
        subprocess.run(["nbdcopy", disk.uri, run.work / "copy.raw"], check=True)
    assert (run.work / "copy.raw").read_bytes() == remote.content
    assert {path.name for path in run.work.iterdir()} <= {"copy.raw", "counted.txt", "counted.log", "counted.sock"}


def test_a_client_that_speaks_nonsense_is_dropped_and_others_are_served(run: Run, remote: Remote) -> None:
    with served_disk(run, remote) as uri:
        for words in (
            b"",
            b"\0\0\0\3GET / HTTP/1.1\r\n\r\n",
            b"\0\0\0\1IHAVEOPT\0\0\0\7\xff\xff\xff\xff",
            b"\xff" * 64,
        ):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(socket_path(uri)))
                client.sendall(words)
        with Disk(uri) as disk:
            assert disk.read(0, 512) == remote.content[:512]


def test_its_socket_is_for_its_user_only(run: Run, remote: Remote) -> None:
    with served_disk(run, remote) as uri:
        folder: Path = socket_path(uri).parent
        assert folder.stat().st_mode & 0o777 == 0o700
