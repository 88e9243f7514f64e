"""What is inside an initramfs: the names of its files, and the kernel modules among them.

An initramfs is one or more cpio archives (newc) in a row, each plain or compressed; the kernel unpacks all of them over one another.
The first is often a plain one with the processor's microcode. Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import bz2
import lzma
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Protocol

import lz4.block
import lz4.frame
import zstandard

from migrate.errors import GuestError

MOST_BYTES = 4 << 30
"""An initramfs that unpacks to more than this is a bomb: real ones stay under 1 GiB."""
MOST_NAMES = 1_000_000
LONGEST_NAME = 4096
"""PATH_MAX: the kernel skips entries with longer names."""

# So little goes into a decompressor at once that the worst ratio (bzip2's, some 20,000 to 1) fits into memory.
PIECE = 1024

NEWC = (b"070701", b"070702")
TRAILER = "TRAILER!!!"
LZ4_LEGACY = bytes.fromhex("02214c18")
LZ4_LEGACY_BLOCK = 8 << 20


class _Decompressor(Protocol):
    """What bz2, lzma, zlib, zstandard and lz4 have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def modules_inside(initrd: bytes) -> frozenset[str]:
    """Return the kernel modules inside an initramfs, as `module_name` writes them. Raise GuestError where it is none."""
    return frozenset(module_name(name) for name in names_inside(initrd) if is_module(name))


def names_inside(initrd: bytes) -> frozenset[str]:
    """Return the paths inside an initramfs, without a leading "/" or "./".

    What follows the archives (a boot configuration, a signature) is left alone. Raise GuestError where no archive is found, where one is
    cut off, or where it unpacks to more than MOST_BYTES.
    """
    names: set[str] = set()
    view = memoryview(initrd)
    position = archives = 0
    while (position := _after_zeros(view, position)) < len(view):
        if bytes(view[position : position + 6]) in NEWC:
            stream = _Stream(iter([bytes(view[position:])]))
            _read_archive(stream, names)
            position += stream.taken
        else:
            unpacked = _Unpacked(view, position)
            if not unpacked.known:
                break
            stream = _Stream(iter(unpacked))
            while stream.skip_zeros():
                _read_archive(stream, names)
            position = unpacked.position
        archives += 1
    if not archives:
        raise GuestError(
            f"this is no initramfs: it begins with {initrd[:6].hex(' ') or 'nothing'}, which is no archive we know"
        )
    return frozenset(names)


def module_name(path: str) -> str:
    """Return a module's name as the kernel knows it: "kernel/drivers/block/virtio-blk.ko.xz" is "virtio_blk"."""
    return re.sub(r"\.ko(\.\w+)?$", "", path.rsplit("/", 1)[-1]).replace("-", "_")


def builtin_modules(modules_builtin: str) -> frozenset[str]:
    """Return the modules that the kernel itself holds, from /lib/modules/VERSION/modules.builtin. Source: modules.builtin in kbuild(5)."""
    return frozenset(module_name(line.strip()) for line in modules_builtin.splitlines() if line.strip())


def module_dependencies(modules_dep: str) -> Mapping[str, frozenset[str]]:
    """Return each module of a kernel with all that it needs, from /lib/modules/VERSION/modules.dep. Source: modules.dep(5)."""
    lines = (line.partition(":") for line in modules_dep.splitlines() if ":" in line)
    return {module_name(module.strip()): frozenset(map(module_name, needed.split())) for module, _, needed in lines}


def missing_modules(wanted: frozenset[str], *, inside: frozenset[str], builtin: frozenset[str]) -> frozenset[str]:
    """Return which of the wanted modules are neither in the initramfs nor in the kernel."""
    return wanted - inside - builtin


def section(program: bytes, name: str) -> bytes | None:
    """Return a section of an EFI program, as a unified kernel image holds its initramfs (".initrd"); None where it has none.

    Source: PE format, "Section Table (Section Headers)"; UAPI group, "Unified Kernel Image".
    """
    try:
        (head,) = struct.unpack_from("<I", program, 0x3C)
        signature, count, optional = struct.unpack_from("<4s2xH12xH", program, head)
        if program[:2] != b"MZ" or signature != b"PE\0\0":
            return None
        for number in range(count):
            found, size, held, at = struct.unpack_from("<8sI4xII", program, head + 24 + optional + 40 * number)
            if found.rstrip(b"\0") == name.encode():
                return program[at : at + min(size, held)]
    except struct.error:
        return None
    return None


def cpio(files: Mapping[str, bytes]) -> bytes:
    """Return a newc archive of regular files, always the same bytes for the same files. Source: cpio(5), "New ASCII Format"."""
    members = [*((name.encode(), 0o100644, data) for name, data in sorted(files.items())), (TRAILER.encode(), 0, b"")]
    return b"".join(_member(number, name, mode, data) for number, (name, mode, data) in enumerate(members, 1))


def _member(number: int, name: bytes, mode: int, data: bytes) -> bytes:
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)


def is_module(name: str) -> bool:
    """Whether a path is a kernel module's, compressed or not."""
    return re.search(r"\.ko(\.(xz|zst|gz|bz2|lz4|lzma))?$", name) is not None


def _after_zeros(view: memoryview, position: int) -> int:
    while position < len(view) and not view[position]:
        position += 1
    return position


class _Stream:
    """Bytes that arrive in chunks, read in order; `taken` counts those read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self.taken = 0

    def _more(self) -> bool:
        while self._at >= len(self._chunk):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._chunk, self._at = chunk, 0
        return True

    def read(self, count: int) -> bytes:
        parts = []
        while count and self._more():
            part = self._chunk[self._at : self._at + count]
            parts.append(part)
            self._at += len(part)
            self.taken += len(part)
            count -= len(part)
        if count:
            raise GuestError("the initramfs is cut off in the middle of an archive")
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count and self._more():
            step = min(count, len(self._chunk) - self._at)
            self._at += step
            self.taken += step
            count -= step
        if count:
            raise GuestError("the initramfs is cut off in the middle of a file")

    def skip_zeros(self) -> bool:
        """Move to the next byte that is not zero; False at the end."""
        while self._more():
            rest = len(self._chunk) - self._at
            zeros = rest - len(self._chunk[self._at :].lstrip(b"\0"))
            self._at += zeros
            self.taken += zeros
            if zeros < rest:
                return True
        return False


def _read_archive(stream: _Stream, names: set[str]) -> None:
    """Add the names of one cpio archive, to its trailer."""
    while True:
        header = stream.read(110)
        if header[:6] not in NEWC:
            raise GuestError(
                f"an archive in the initramfs has no cpio header where one should be: {header[:6].hex(' ')}"
            )
        try:
            fields = struct.unpack(">13I", bytes.fromhex(header[6:].decode("ascii")))
        except (ValueError, struct.error) as error:
            raise GuestError("an archive in the initramfs has a broken cpio header") from error
        size, name_size = fields[6], fields[11]
        if not 0 < name_size <= LONGEST_NAME:
            raise GuestError(f"an archive in the initramfs has a file name of {name_size} bytes")
        name = stream.read(name_size).rstrip(b"\0").decode("utf-8", "surrogateescape")
        stream.skip(-(110 + name_size) % 4)
        if name == TRAILER:
            return
        stream.skip(size)
        stream.skip(-size % 4)
        names.add(name.removeprefix(".").lstrip("/") if name.startswith("./") else name.lstrip("/"))
        if len(names) > MOST_NAMES:
            raise GuestError(f"the initramfs names more than {MOST_NAMES:,} files")


class _Unpacked:
    """The chunks of a compressed archive that begins at `position`, which moves behind it as they are read."""

    def __init__(self, view: memoryview, position: int) -> None:
        self._view = view
        self.position = position
        self._magic = bytes(view[position : position + 6])
        self._decompressor = _decompressor(self._magic)
        self.known = self._decompressor is not None or self._magic[:4] == LZ4_LEGACY

    def __iter__(self) -> Iterator[bytes]:
        chunks = self._frame(self._decompressor) if self._decompressor is not None else self._lz4_legacy()
        total = 0
        try:
            for chunk in chunks:
                total += len(chunk)
                if total > MOST_BYTES:
                    raise GuestError(f"the initramfs unpacks to more than {MOST_BYTES >> 30} GiB")
                yield chunk
        except (
            zlib.error,
            lzma.LZMAError,
            zstandard.ZstdError,
            lz4.block.LZ4BlockError,
            OSError,
            RuntimeError,
            EOFError,
        ) as error:
            raise GuestError(f"the initramfs cannot be unpacked: {error}") from error

    def _frame(self, decompressor: _Decompressor) -> Iterator[bytes]:
        while not decompressor.eof:
            piece = bytes(self._view[self.position : self.position + PIECE])
            if not piece:
                raise GuestError("the initramfs is cut off in the middle of its compressed part")
            self.position += len(piece)
            yield decompressor.decompress(piece)
        self.position -= len(decompressor.unused_data or b"")

    def _lz4_legacy(self) -> Iterator[bytes]:
        """Source: lz4_Frame_format.md, "Legacy frame": a magic, then blocks with their compressed size before them."""
        self.position += 4
        while self.position + 4 <= len(self._view):
            (size,) = struct.unpack_from("<I", self._view, self.position)
            if size == 0 or self.position + 4 + size > len(self._view):
                return
            if self._view[self.position : self.position + 4] == LZ4_LEGACY:  # a second frame follows at once
                self.position += 4
                continue
            if size > lz4_bound(LZ4_LEGACY_BLOCK):  # not a block any more, as the kernel's reader sees it too
                return
            block = bytes(self._view[self.position + 4 : self.position + 4 + size])
            self.position += 4 + size
            yield lz4.block.decompress(block, uncompressed_size=LZ4_LEGACY_BLOCK)


def lz4_bound(size: int) -> int:
    """Return the most bytes that so many bytes compress to. Source: LZ4_COMPRESSBOUND in lz4.h."""
    return size + size // 255 + 16


def _decompressor(magic: bytes) -> _Decompressor | None:
    """Choose by the magic, as the kernel does (lib/decompress.c)."""
    if magic[:2] in (b"\x1f\x8b", b"\x1f\x9e"):
        return zlib.decompressobj(31)
    if magic == b"\xfd7zXZ\0":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 << 20)
    if magic[:2] == b"\x5d\x00":
        return lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=256 << 20)
    if magic[:3] == b"BZh":
        return bz2.BZ2Decompressor()
    if magic[:4] == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor(max_window_size=256 << 20).decompressobj()
    if magic[:4] == b"\x04\x22\x4d\x18":
        framed: _Decompressor = lz4.frame.LZ4FrameDecompressor()
        return framed
    return None
