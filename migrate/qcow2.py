"""A qcow2 written in one pass: clusters as they come, tables behind them, the header last.

    writer = Qcow2Writer(append, disk_bytes, Compression.ZLIB)
    for number, content in clusters:                  # in rising order; what is left out reads as zeros
        writer.add(number, writer.pack(content))      # `pack` may run in other threads
    head = writer.finish()                            # belongs at offset 0, in place of the zeros that were appended there

What is appended depends on the disk's content and the settings only: the same input gives the same bytes. Compat 1.1, 64 KiB clusters,
16-bit refcounts, no backing file; zlib sets no incompatible-feature bit, so every QEMU since 2012 reads it.
Source of the format: QEMU's docs/interop/qcow2.txt.
"""

import struct
import threading
import zlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import zstandard
from isal import isal_zlib

CLUSTER_BITS = 16
CLUSTER = 1 << CLUSTER_BITS
SECTOR = 512
ZEROS = bytes(CLUSTER)

TABLE_ENTRIES = CLUSTER // 8
"""How many 64-bit entries a cluster holds: one L2 table maps 512 MiB of disk."""
REFCOUNTS = CLUSTER // 2
"""How many 16-bit refcounts a cluster holds: one block counts 2 GiB of file."""

COPIED = 1 << 63
COMPRESSED = 1 << 62
SECTORS_SHIFT = 62 - (CLUSTER_BITS - 8)
"""In the entry of a compressed cluster: the offset's bits below, above them how many sectors it reaches into beyond its first."""

HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQIIB7x")
ZSTD_FEATURE = 1 << 3
WINDOW_BITS = 12
"""What QEMU inflates with: a window of 4 KiB, no header. Source: QEMU, block/qcow2-threads.c."""

HELD_LIMIT = 8 << 20
"""How much may wait for a place: more costs memory, less costs space."""
SETTLED_CLUSTERS = 128
"""After each 8 MiB of disk nothing waits: whoever knows the lengths of what was added so far can go on from there."""
PADDING = 4 << 10
"""How much may be left empty before a plain cluster, which begins at a border: packed ones go on until the next border is so near."""


class Compression(Enum):
    """How clusters are packed. ZSTD needs QEMU 5.1 and a reader that knows this feature bit."""

    ZLIB = "zlib"
    """ISA-L's fast deflate."""
    ZLIB_SMALL = "zlib-small"
    """The classic deflate at its usual level: 6 to 10 times the time for some 6 % fewer bytes."""
    ZSTD = "zstd"


@dataclass(frozen=True, slots=True)
class Packed:
    """A cluster as it is stored; one that does not get smaller is stored plain."""

    content: bytes
    compressed: bool


Content = bytes | bytearray | memoryview
"""A cluster as it was read; it may be a view of something larger that lives shortly."""


def packer(compression: Compression) -> Callable[[Content], Packed]:
    """Return what packs one cluster. Content is never zeros only: such a cluster is left out."""
    deflate = _DEFLATE[compression]

    def pack(content: Content) -> Packed:
        small = deflate(content)
        # As QEMU does: what saves no byte is stored as it is.
        return Packed(small, True) if len(small) < CLUSTER else Packed(bytes(content), False)

    return pack


def _isal(content: Content) -> bytes:
    packed: bytes = isal_zlib.compress(content, 1, -WINDOW_BITS)
    return packed


def _zlib(content: Content) -> bytes:
    return zlib.compress(content, 6, -WINDOW_BITS)


def _zstd(content: Content) -> bytes:
    return _zstd_compressor().compress(content)


_threads = threading.local()


def _zstd_compressor() -> zstandard.ZstdCompressor:
    """One for each thread: it cannot be shared, and making one takes as long as packing 10 KiB."""
    found: zstandard.ZstdCompressor | None = getattr(_threads, "zstd", None)
    if found is None:
        # Level 3, QEMU's, saves 0.5 % more and takes 16 % longer (measured).
        found = _threads.zstd = zstandard.ZstdCompressor(level=2)
    return found


_DEFLATE: dict[Compression, Callable[[Content], bytes]] = {
    Compression.ZLIB: _isal,
    Compression.ZLIB_SMALL: _zlib,
    Compression.ZSTD: _zstd,
}


class Qcow2Writer:
    """Lays clusters out in a file that is appended to only. `disk_bytes` is rounded up to whole sectors."""

    def __init__(
        self, append: Callable[[bytes], None], disk_bytes: int, compression: Compression = Compression.ZLIB
    ) -> None:
        self._append = append
        self._disk_bytes = -(-disk_bytes // SECTOR) * SECTOR
        self._compression = compression
        self._l2: dict[int, array[int]] = {}
        self._refcounts = array("H", [1])
        self._held: list[tuple[int, bytes]] = []
        """Plain clusters that wait for a place."""
        self._last = -1
        self._end = CLUSTER
        append(ZEROS)

    @property
    def length(self) -> int:
        """The bytes of the file so far; its tables come with `finish`."""
        return self._end

    def add(self, number: int, cluster: Packed) -> None:
        """The disk's cluster `number` is in the file. Numbers must rise."""
        if not self._last < number < -(-self._disk_bytes // CLUSTER):
            raise ValueError(f"cluster {number} after {self._last} of a disk of {self._disk_bytes} bytes")
        if number // SETTLED_CLUSTERS != self._last // SETTLED_CLUSTERS:
            self.settle()
        self._last = number
        if cluster.compressed:
            self._append_compressed(number, cluster.content)
        else:
            self._held.append((number, cluster.content))
        if -self._end % CLUSTER <= PADDING or len(self._held) * CLUSTER >= HELD_LIMIT:
            self.settle()

    def settle(self) -> None:
        """Every cluster that was added is in the file."""
        if self._held:
            self._pad()
            for number, content in self._held:
                self._count(self._end >> CLUSTER_BITS)
                self._map(number, COPIED | self._end)
                self._append(content)
                self._end += CLUSTER
            self._held.clear()

    def finish(self) -> bytes:
        """Append the tables and return the header's cluster, which belongs at offset 0. The writer is not used after it."""
        self.settle()
        self._pad()
        tables = sorted(self._l2)
        l2_at = self._end
        l1 = array("Q", bytes(8 * max(1, -(-self._disk_bytes // (TABLE_ENTRIES * CLUSTER)))))
        for place, index in enumerate(tables):
            l1[index] = COPIED | (l2_at + place * CLUSTER)
        l1_at = l2_at + len(tables) * CLUSTER
        l1_clusters = _clusters(len(l1) * 8)
        blocks_at = l1_at + l1_clusters * CLUSTER
        blocks, table_clusters = _refcount_clusters(blocks_at // CLUSTER)
        table_at = blocks_at + blocks * CLUSTER
        total = table_at // CLUSTER + table_clusters
        self._refcounts.extend([1] * (total - len(self._refcounts)))

        for index in tables:
            self._append(_big_endian(self._l2[index]))
        self._append(_padded(_big_endian(l1)))
        self._refcounts.extend([0] * (blocks * REFCOUNTS - total))
        self._append(_big_endian(self._refcounts))
        table = array("Q", [blocks_at + place * CLUSTER for place in range(blocks)])
        self._append(_padded(_big_endian(table)))
        self._end = total * CLUSTER
        return self._head(l1_at, len(l1), table_at, table_clusters)

    def _head(self, l1_at: int, l1_entries: int, table_at: int, table_clusters: int) -> bytes:
        zstd = self._compression is Compression.ZSTD
        return HEADER.pack(
            b"QFI\xfb",
            3,
            *(0, 0),  # no backing file
            CLUSTER_BITS,
            self._disk_bytes,
            0,  # not encrypted
            l1_entries,
            l1_at,
            table_at,
            table_clusters,
            *(0, 0),  # no snapshots
            *(ZSTD_FEATURE if zstd else 0, 0, 0),  # features: incompatible, compatible, autoclear
            4,  # 16-bit refcounts
            HEADER.size,
            int(zstd),
        ).ljust(CLUSTER, b"\0")  # zeros end the list of header extensions

    def _append_compressed(self, number: int, content: bytes) -> None:
        """At the end of the file, whatever the border: it may reach across clusters, and shares them with others."""
        at, last = self._end, self._end + len(content) - 1
        for host in range(at >> CLUSTER_BITS, (last >> CLUSTER_BITS) + 1):
            self._count(host)
        self._map(number, COMPRESSED | (last // SECTOR - at // SECTOR) << SECTORS_SHIFT | at)
        self._append(content)
        self._end += len(content)

    def _map(self, number: int, entry: int) -> None:
        table = self._l2.get(number // TABLE_ENTRIES)
        if table is None:
            table = self._l2[number // TABLE_ENTRIES] = array("Q", bytes(CLUSTER))
        table[number % TABLE_ENTRIES] = entry

    def _pad(self) -> None:
        rest = -self._end % CLUSTER
        if rest:
            self._append(bytes(rest))
            self._end += rest

    def _count(self, host: int) -> None:
        missing = host + 1 - len(self._refcounts)
        if missing > 0:
            self._refcounts.extend([0] * missing)
        self._refcounts[host] += 1  # 16 bits are enough: no packed cluster is shorter than 70 bytes


def _clusters(length: int) -> int:
    return -(-length // CLUSTER)


def _refcount_clusters(before: int) -> tuple[int, int]:
    """Return how many refcount blocks, and clusters of their table, count `before` clusters and themselves."""
    blocks, table = 0, 0
    while True:
        wanted = -(-(before + blocks + table) // REFCOUNTS)
        wanted_table = _clusters(wanted * 8)
        if (wanted, wanted_table) == (blocks, table):
            return blocks, table
        blocks, table = wanted, wanted_table


def _big_endian(values: "array[int]") -> bytes:
    turned = values[:]
    turned.byteswap()  # every machine that we run on is little-endian: x86-64
    return turned.tobytes()


def _padded(content: bytes) -> bytes:
    return content.ljust(_clusters(len(content)) * CLUSTER, b"\0")
