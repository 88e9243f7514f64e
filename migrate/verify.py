"""A stored image read back and compared, chunk by chunk, with what was read from the disk.

It reads what `migrate.qcow2` writes, from whatever gives it bytes by offset: an object in the cloud, or a file.
"""

import hashlib
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import zstandard

from migrate.block_map import CHUNK, BlockMap, sha256_of_zeros
from migrate.errors import MigrateError
from migrate.qcow2 import (
    CLUSTER,
    CLUSTER_BITS,
    COMPRESSED,
    COPIED,
    HEADER,
    SECTOR,
    SECTORS_SHIFT,
    TABLE_ENTRIES,
    WINDOW_BITS,
    ZSTD_FEATURE,
)
from migrate.run import Progress, Run

Reader = Callable[[int, int], bytes]
"""Gives bytes from an offset on: as many as were asked for, or fewer where the image ends."""

PER_CHUNK = CHUNK // CLUSTER
AT_ONCE = 8
"""Chunks that are fetched or unpacked: the storage's answers are waited for, not the processor."""
GAP = 1 << 20
"""Pieces of a chunk that lie so near to each other are fetched at once."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stored cluster: its place in the chunk, and its bytes in the image."""

    place: int
    offset: int
    length: int
    compressed: bool


class StoredImage:
    """A qcow2 as we write it. Raise MigrateError where it is not one."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        head = read(0, HEADER.size)
        try:
            fields = HEADER.unpack(head)
        except struct.error as error:
            raise MigrateError(f"the image has {len(head)} bytes: too short for a qcow2") from error
        magic, version, backing, _, cluster_bits, self.disk_bytes, crypt, entries, l1_at, *_ = fields
        features = fields[13]
        if (magic, version, backing, cluster_bits, crypt) != (
            b"QFI\xfb",
            3,
            0,
            CLUSTER_BITS,
            0,
        ) or features & ~ZSTD_FEATURE:
            raise MigrateError("the image is no qcow2 of ours: its header is another")
        self._zstd = bool(features & ZSTD_FEATURE)
        self._l1 = _entries(read(l1_at, entries * 8))
        self._tables: dict[int, array[int]] = {}

    def chunk(self, number: int, length: int) -> bytes | None:
        """Return a chunk of the disk; None where nothing of it is stored: it reads as zeros."""
        pieces = self._pieces(number)
        if not pieces:
            return None
        content = bytearray(PER_CHUNK * CLUSTER)
        for group in _grouped(pieces):
            start, end = group[0].offset, max(piece.offset + piece.length for piece in group)
            stored = self._read(start, end - start)
            for piece in group:
                raw = stored[piece.offset - start : piece.offset - start + piece.length]
                content[piece.place * CLUSTER : (piece.place + 1) * CLUSTER] = self._unpacked(raw, piece)
        return bytes(content[:length])

    def _unpacked(self, raw: bytes, piece: _Piece) -> bytes:
        if not piece.compressed:
            return raw.ljust(CLUSTER, b"\0")
        try:
            if self._zstd:
                return zstandard.ZstdDecompressor().decompressobj().decompress(raw)
            return zlib.decompressobj(-WINDOW_BITS).decompress(raw, CLUSTER)
        except (zlib.error, zstandard.ZstdError) as error:
            raise MigrateError(
                f"a cluster at offset {piece.offset} of the image cannot be unpacked: {error}"
            ) from error

    def _pieces(self, number: int) -> list[_Piece]:
        found = []
        for place in range(PER_CHUNK):
            entry = self._entry(number * PER_CHUNK + place)
            if entry & COMPRESSED:
                offset = entry & ((1 << SECTORS_SHIFT) - 1)
                sectors = (entry & ~(COMPRESSED | COPIED)) >> SECTORS_SHIFT
                found.append(_Piece(place, offset, (sectors + 1) * SECTOR - offset % SECTOR, True))
            elif entry:
                found.append(_Piece(place, entry & ~COPIED, CLUSTER, False))
        return sorted(found, key=lambda piece: piece.offset)

    def _entry(self, cluster: int) -> int:
        index = cluster // TABLE_ENTRIES
        if index >= len(self._l1) or not self._l1[index]:
            return 0
        table = self._tables.get(index)
        if table is None:
            table = self._tables[index] = _entries(self._read(self._l1[index] & ~COPIED, CLUSTER))
        return table[cluster % TABLE_ENTRIES]


def verify(run: Run, read: Reader, blocks: BlockMap, stage: str) -> None:
    """Every chunk of the image is what was read from the disk. Raise MigrateError that names the first ones that are not."""
    image = StoredImage(read)
    if image.disk_bytes != -(-blocks.disk_bytes // SECTOR) * SECTOR:
        raise MigrateError(f"the image's disk has {image.disk_bytes} bytes, and {blocks.disk_bytes} were read")
    wrong: list[int] = []
    with ThreadPoolExecutor(AT_ONCE, "verify") as pool:
        waiting: list[tuple[int, Future[bytes]]] = []
        try:
            for number in range(blocks.chunks):
                waiting.append((number, pool.submit(_digest, run, image, number, blocks.length(number))))
                if len(waiting) >= AT_ONCE:
                    wrong += _checked(run, waiting.pop(0), blocks, stage)
            while waiting:
                wrong += _checked(run, waiting.pop(0), blocks, stage)
        finally:
            for _, future in waiting:
                future.cancel()
    if wrong:
        places = ", ".join(f"{number * CHUNK}" for number in wrong[:8])
        raise MigrateError(
            f"the image is not what was read from the disk: {len(wrong)} of {blocks.chunks} pieces of 4 MiB differ, "
            f"at offset {places}{' …' if len(wrong) > 8 else ''}",
            hint="Do not use this image. Run the migration again, and look at the storage that held it.",
        )


def _digest(run: Run, image: StoredImage, number: int, length: int) -> bytes:
    run.check()
    content = image.chunk(number, length)
    return sha256_of_zeros(length) if content is None else hashlib.sha256(content).digest()


def _checked(run: Run, one: tuple[int, "Future[bytes]"], blocks: BlockMap, stage: str) -> Iterator[int]:
    number, future = one
    try:
        right = future.result() == blocks.of(number)
    except zlib.error:
        right = False
    run.tell(Progress(stage, number * CHUNK + blocks.length(number), blocks.disk_bytes, "B"))
    if not right:
        yield number


def _grouped(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    group: list[_Piece] = []
    for piece in pieces:
        if group and piece.offset - (group[-1].offset + group[-1].length) > GAP:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def _entries(content: bytes) -> "array[int]":
    found = array("Q", content[: len(content) // 8 * 8])
    found.byteswap()
    return found
