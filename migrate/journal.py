"""What has flowed into an object so far: enough to go on after a crash, without reading or sending a finished part again.

A text file that is appended to: a line of JSON about the upload, then "c NUMBER SHA256 LENGTHS" for each chunk of the disk that was packed, with
the stored length of each of its clusters (0: zeros only, 65536: stored plain), "f NUMBER MD5" for each part that was filled and lies beside
the journal until it has arrived, and "p NUMBER MD5" then.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.block_map import CHUNK
from migrate.qcow2 import CLUSTER, SETTLED_CLUSTERS, Compression, Packed, Qcow2Writer
from migrate.stream import Chunk
from migrate.whole_file import write_whole

PER_CHUNK = CHUNK // CLUSTER
BLANK = bytes(CLUSTER)


class Head(BaseModel):
    """The upload that the lines belong to. A line of another upload, disk or way of packing is of no use."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: str
    mark: str
    key: str
    part_bytes: int
    disk_bytes: int
    compression: Compression


@dataclass(frozen=True, slots=True)
class Laid:
    """A chunk that has flowed: its number, its SHA-256, and how long each cluster is as it is stored."""

    number: int
    sha256: bytes
    lengths: tuple[int, ...]

    def clusters(self) -> Iterator[tuple[int, Packed]]:
        """Yield the chunk's clusters with their lengths, and zeros for what was in them."""
        for place, length in enumerate(self.lengths):
            if length:
                yield self.number * PER_CHUNK + place, Packed(BLANK[:length], length < CLUSTER)


@dataclass(frozen=True, slots=True)
class Past:
    """What a journal tells: `parts` holds the MD5 of each part that has arrived, `filled` that of each that was to be sent."""

    head: Head
    chunks: tuple[Laid, ...]
    parts: dict[int, str]
    filled: dict[int, str] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """How long the file is if these are all chunks that hold something, in bytes."""
        writer = Qcow2Writer(lambda content: None, self.head.disk_bytes, self.head.compression)
        for chunk in self.chunks:
            for number, cluster in chunk.clusters():
                writer.add(number, cluster)
        writer.finish()
        return writer.length

    def until(self, length: int) -> tuple[Laid, ...]:
        """Return the first chunks whose clusters all lie before this byte of the file, with nothing held back behind them."""
        writer = Qcow2Writer(lambda content: None, self.head.disk_bytes, self.head.compression)
        certain = 0
        for place, chunk in enumerate(self.chunks):
            first = chunk.number * PER_CHUNK
            if place and first // SETTLED_CLUSTERS != self.chunks[place - 1].number * PER_CHUNK // SETTLED_CLUSTERS:
                writer.settle()
                if writer.length > length:
                    break
                certain = place
            for number, cluster in chunk.clusters():
                writer.add(number, cluster)
        return self.chunks[:certain]


def read(path: Path) -> Past | None:
    """Return what the journal tells; None where there is none. A line that was cut off did not happen, and none behind it."""
    try:
        whole = path.read_text("ascii")
    except (FileNotFoundError, UnicodeDecodeError):
        return None
    first, *lines = whole[: whole.rfind("\n") + 1].splitlines() or [""]
    try:
        head = Head.model_validate_json(first)
    except ValidationError:
        return None
    chunks: list[Laid] = []
    parts: dict[int, str] = {}
    filled: dict[int, str] = {}
    for line in lines:
        try:
            if line.startswith("c "):
                chunks.append(_laid(line))
            else:
                kind, number, digest = line.split(" ")
                {"p": parts, "f": filled}[kind][int(number)] = digest
        except (
            ValueError,
            KeyError,
        ):  # a full disk cut it off, and what was written once there was room again stands behind it
            break
    return Past(head, tuple(chunks), parts, filled)


class Journal:
    """A journal that is being written."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def chunk(self, chunk: Chunk) -> None:
        lengths = [0] * PER_CHUNK
        for number, cluster in chunk.clusters:
            lengths[number % PER_CHUNK] = len(cluster.content)
        self._write(_line(Laid(chunk.number, chunk.sha256, tuple(lengths))))

    def filled(self, number: int, md5: str) -> None:
        """The part is whole, and lies beside the journal; a loss of power may take it."""
        self._write(f"f {number} {md5}")

    def part(self, number: int, md5: str) -> None:
        """The part has arrived; the chunks in it were written down before, and survive a loss of power as well."""
        self._write(f"p {number} {md5}")
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()


def begin(path: Path, past: Past) -> Journal:
    """Begin a journal with what is known to hold; return it for what comes."""
    lines = [past.head.model_dump_json(), *map(_line, past.chunks)]
    lines += [
        f"{kind} {n} {md5}" for kind, parts in (("f", past.filled), ("p", past.parts)) for n, md5 in parts.items()
    ]
    write_whole(path, "".join(f"{line}\n" for line in lines).encode("ascii"))
    return Journal(path.open("a", encoding="ascii"))


def _line(chunk: Laid) -> str:
    return f"c {chunk.number} {chunk.sha256.hex()} {','.join(map(str, chunk.lengths))}"


def _laid(line: str) -> Laid:
    _, number, sha256, lengths = line.split(" ")
    found = tuple(int(length) for length in lengths.split(","))
    if len(found) != PER_CHUNK or not all(0 <= length <= CLUSTER for length in found):
        raise ValueError(line)
    return Laid(int(number), bytes.fromhex(sha256), found)
