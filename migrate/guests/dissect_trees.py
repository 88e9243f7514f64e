"""A guest's file systems as Dissect reads them: ext2, ext3, ext4, xfs, btrfs and vfat, each behind the same few questions.

Runs in the process that migrate.guests.dissect_reader shuts in, and nowhere else: the bytes are the guest's. Dissect's own runs of blocks are not used
where they are wrong: of xfs it reads what was allocated and never written as content (3.13), of vfat it joins clusters that do not follow (3.13).
"""

import io
import stat
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Protocol

from dissect.btrfs import Btrfs
from dissect.extfs import ExtFS
from dissect.fat import FATFS
from dissect.util.stream import RunlistStream
from dissect.xfs import XFS

from migrate.errors import GuestError
from migrate.guests import extfs, xfs_log
from migrate.guests.disks import EXT
from migrate.guests.ext_journal import Logged, replayed

Node = Any
"""What a name leads to, in Dissect's own type: an inode, or an entry of vfat."""


MOST_FOLDER = 2 << 20
"""What a folder of vfat holds at most, in bytes: 65,536 entries. Source: Microsoft, FAT specification, 6.3."""


MOST_GROUPS = 1 << 20
"""Of blocks, in an ext4: 128 TiB in groups of the usual size."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of a node; `mark` is another one after each change."""

    mode: int
    uid: int
    gid: int
    size: int
    mark: str
    immutable: bool = False


class Tree(Protocol):
    """A file system. `free` is what can still be written, in bytes, None where that is not known."""

    root: Node
    free: int | None
    stale: str | None
    """Why it may be older than the guest left it, in words."""

    def entries(self, node: Node) -> Iterator[tuple[str, Node]]: ...

    def type(self, node: Node) -> int:
        """Return its type as in st_mode."""

    def attributes(self, node: Node) -> Attributes: ...

    def open(self, node: Node) -> BinaryIO: ...

    def target(self, node: Node) -> str: ...


class Unread(GuestError):
    """A file system of a kind that is not read here."""


def tree_of(kind: str, stream: BinaryIO, subvolume: str | None = None) -> Tree:
    """Open a file system by libblkid's name for it; `subvolume` as in btrfs(5), "subvol=" or "subvolid="."""
    if kind in EXT:
        return ExtTree(stream)
    match kind:
        case "xfs":
            return XfsTree(stream)
        case "btrfs":
            return BtrfsTree(stream, subvolume)
        case "vfat":
            return FatTree(stream)
    raise Unread(f"{kind} is not read here")


class Patched(io.RawIOBase):
    """A file system with blocks laid over it that its journal holds."""

    def __init__(self, lower: BinaryIO, blocks: Mapping[int, Logged], size: int, logged: Callable[[Logged], bytes]):
        self._lower = lower
        self._blocks = blocks
        self._size = size
        self._logged = logged
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET:
            offset = self._lower.seek(offset, whence) if whence == io.SEEK_END else self._at + offset
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        self._lower.seek(self._at)
        content = bytearray(self._lower.read(count))
        first, last = self._at // self._size, (self._at + len(content) - 1) // self._size
        for number in self._among(first, last):
            block = self._logged(self._blocks[number])
            start = number * self._size - self._at
            cut = max(0, -start)
            piece = block[cut : min(len(block), len(content) - start)]
            content[start + cut : start + cut + len(piece)] = piece
        self._at += len(content)
        return bytes(content)

    def _among(self, first: int, last: int) -> list[int]:
        if last - first < len(self._blocks):
            return [number for number in range(first, last + 1) if number in self._blocks]
        return [number for number in self._blocks if first <= number <= last]


class ExtTree:
    """ext2, ext3 and ext4. A journal that was not replayed is, in memory."""

    KNOWN = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x20000
    """Incompatible features that change nothing of what is read here, or that Dissect knows."""
    IMMUTABLE = 0x10 | 0x20

    def __init__(self, stream: BinaryIO) -> None:
        self.stale: str | None = None
        stream.seek(extfs.SUPERBLOCK)
        state = extfs.state(stream.read(256))
        system = self._known(ExtFS(stream))
        if state.needs_recovery:
            journal = system.get_inode(system.sb.s_journal_inum).open()

            def read(offset: int, count: int) -> bytes:
                journal.seek(offset)
                return bytes(journal.read(count))

            def content(logged: Logged) -> bytes:
                block = read(logged.block * system.block_size, system.block_size)
                return b"\xc0\x3b\x39\x98" + block[4:] if logged.escaped else block

            blocks = replayed(read, system.block_size)
            if blocks:
                system = self._known(ExtFS(Patched(stream, blocks, system.block_size, content)))
        self._system = system
        self.root = system.root
        self.free: int | None = self._free()

    def _known(self, system: ExtFS) -> ExtFS:
        if unknown := system.sb.s_feature_incompat & ~self.KNOWN:
            raise Unread(f"it has features of ext4 that are not read here (0x{unknown:x})")
        return system

    def _free(self) -> int | None:
        """As fuse2fs and the kernel tell it to those who are not root. The superblock's own number is as old as the last unmounting."""
        system, sb = self._system, self._system.sb
        width = system._group_desc_size
        if system.groups_count > MOST_GROUPS or width < 32:
            return None
        system.fh.seek(system.groups_offset)
        groups = system.fh.read(system.groups_count * width)
        free = sum(struct.unpack_from("<H", groups, at + 0x0C)[0] for at in range(0, len(groups), width))
        if width >= 64:
            free += sum(struct.unpack_from("<H", groups, at + 0x2C)[0] for at in range(0, len(groups), width)) << 16
        kept = sb.s_r_blocks_count_lo | sb.s_r_blocks_count_hi << 32
        return max(0, int(free - kept)) * int(system.block_size)

    def entries(self, node: Node) -> Iterator[tuple[str, Node]]:
        for entry in node.iterdir():
            yield entry.filename, entry

    def type(self, node: Node) -> int:
        return int(node.filetype)

    def attributes(self, node: Node) -> Attributes:
        inode = node.inode
        uid, gid = inode.i_uid | inode.i_uid_high << 16, inode.i_gid | inode.i_gid_high << 16
        immutable = bool(inode.i_flags & self.IMMUTABLE)
        return Attributes(inode.i_mode, uid, gid, node.size, f"{node.inum}.{node.ctime_ns}", immutable)

    def open(self, node: Node) -> BinaryIO:
        opened: BinaryIO = node.open()
        return opened

    def target(self, node: Node) -> str:
        return str(node.link)


class XfsTree:
    """xfs. Its log is not replayed."""

    KNOWN = 0x1 | 0x2 | 0x4 | 0x8 | 0x20 | 0x40 | 0x80
    IMMUTABLE = 0x8 | 0x10
    RMAP, REFLINK = 0x2, 0x4

    def __init__(self, stream: BinaryIO) -> None:
        self._system = XFS(stream)
        sb = self._system.sb
        if self._system.version == 5 and (unknown := sb.sb_features_incompat & ~self.KNOWN):
            raise Unread(f"it has features of xfs that are not read here (0x{unknown:x})")
        if sb.sb_dirblklog:
            raise Unread("it has folders in blocks larger than its own, which are not read here")
        self.root = self._system.root
        self.free: int | None = self._free(sb)
        self.stale = None if _is_clean(stream, sb) else "its log was not replayed"

    def _free(self, sb: Any) -> int:
        """A little less than the kernel would tell, which keeps blocks for itself. Source: Linux, fs/xfs/xfs_mount.c, xfs_default_resblks."""
        kept = min(sb.sb_dblocks // 20, 8192)
        for feature in (self.RMAP, self.REFLINK):
            kept += sb.sb_dblocks // 100 if self._system.version == 5 and sb.sb_features_ro_compat & feature else 0
        return max(0, int(sb.sb_fdblocks) - int(kept)) * int(sb.sb_blocksize)

    def entries(self, node: Node) -> Iterator[tuple[str, Node]]:
        for entry in node.iterdir():
            yield entry.filename, entry

    def type(self, node: Node) -> int:
        return int(node.filetype)

    def attributes(self, node: Node) -> Attributes:
        inode = node.inode
        immutable = bool(inode.di_flags & self.IMMUTABLE)
        return Attributes(
            inode.di_mode, inode.di_uid, inode.di_gid, node.size, f"{node.inum}.{node.ctime_ns}", immutable
        )

    def open(self, node: Node) -> BinaryIO:
        if node.inode.di_format == 1:  # in the inode itself
            return io.BytesIO(node.datafork().read(node.size))
        return RunlistStream(self._system.fh, self._runs(node, node.size), node.size, self._system.block_size)  # type: ignore[no-any-return]

    def _runs(self, node: Node, size: int) -> list[tuple[int | None, int]]:
        """Return the runs of a file; what was allocated and not written is a hole."""
        sb = self._system.sb
        runs: list[tuple[int | None, int]] = []
        at = 0
        for offset, block, count, unwritten in node._iter_blocks():
            if offset < at:
                raise GuestError("a file of the guest has extents that overlap")
            if offset > at:
                runs.append((None, offset - at))
            place = (block >> sb.sb_agblklog) * sb.sb_agblocks + (block & ((1 << sb.sb_agblklog) - 1))
            runs.append((None if unwritten else place, count))
            at = offset + count
        left = -(-size // sb.sb_blocksize) - at
        return [*runs, (None, left)] if left > 0 else runs

    def target(self, node: Node) -> str:
        if node.inode.di_format == 1:
            content = node.datafork().read(node.size)
        else:
            header = (
                56 if self._system.version == 5 else 0
            )  # xfs_dsymlink_hdr, in each of its blocks: one holds 4,040 bytes
            size = node.size + header
            content = RunlistStream(self._system.fh, self._runs(node, size), size, self._system.block_size).read()[
                header:
            ]
        return bytes(content).decode("utf-8", "surrogateescape")


def _is_clean(stream: BinaryIO, sb: Any) -> bool:
    """Whether its log, which lies in one piece, says that it was unmounted. One on another device is not seen."""
    if not sb.sb_logstart:
        return False
    block = (sb.sb_logstart >> sb.sb_agblklog) * sb.sb_agblocks + (sb.sb_logstart & ((1 << sb.sb_agblklog) - 1))

    def read(offset: int, count: int) -> bytes:
        stream.seek(block * sb.sb_blocksize + offset)
        return stream.read(count)

    return xfs_log.is_clean(read, sb.sb_logblocks * sb.sb_blocksize)


class BtrfsTree:
    """A subvolume of a btrfs: by default the one that is mounted without options."""

    READ_ONLY = 0x1
    IMMUTABLE = 1 << 6 | 1 << 7

    def __init__(self, stream: BinaryIO, subvolume: str | None) -> None:
        system = Btrfs(stream)
        if system.sb.num_devices != 1:
            raise Unread(f"it lies on {system.sb.num_devices} devices")
        self._system = system
        self._subvolume = self._chosen(subvolume)
        self.root = self._subvolume.root
        self.free: int | None = None
        self.stale: str | None = "its log was not replayed" if system.sb.log_root else None
        self.is_read_only = bool(self._subvolume.tree.root_item.flags & self.READ_ONLY)

    def _chosen(self, words: str | None) -> Any:
        match (words or "").partition("="):
            case "subvolid", _, number if number.isdecimal():
                return self._system.open_subvolume(int(number))
            case "subvol", _, path:
                found = self._system.find_subvolume(path.strip("/"))
                if found is None:
                    raise GuestError(f"there is no subvolume {path}")
                return found
        return self._system.default_subvolume

    def entries(self, node: Node) -> Iterator[tuple[str, Node]]:
        yield from node.iterdir()

    def type(self, node: Node) -> int:
        return int(node.type)

    def attributes(self, node: Node) -> Attributes:
        immutable = bool(node.inode.flags & self.IMMUTABLE)
        mark = f"{node.subvolume.objectid}.{node.inum}.{node.ctime_ns}"
        return Attributes(node.mode, node.uid, node.gid, node.size, mark, immutable)

    def open(self, node: Node) -> BinaryIO:
        opened: BinaryIO = node.open()
        return opened

    def target(self, node: Node) -> str:
        return str(node.link)


class FatTree:
    """vfat, as an EFI system partition is. It keeps no owners and no modes; they are those that the overlay room gives it."""

    LOWER_BASE, LOWER_EXTENSION = 0x08, 0x10

    def __init__(self, stream: BinaryIO) -> None:
        self._system = FATFS(stream)
        self.root = self._system.root
        self.free: int | None = None
        self.stale: str | None = None

    def entries(self, node: Node) -> Iterator[tuple[str, Node]]:
        if node.cluster:
            node._runlist = self._runs(node.cluster, MOST_FOLDER // self._system.cluster_size)
        for entry in node.iterdir():
            if not entry.is_volume_id():
                yield self._name(entry), entry

    def _name(self, entry: Node) -> str:
        """A short name has a bit that says whether it is to be shown in lower case. Source: Linux, fs/fat/dir.c, CASE_LOWER_BASE."""
        if entry.ldirents:
            return str(entry.name).split("\0")[0]
        base, dot, extension = entry.short_name.partition(".")
        bits = entry.dirent.DIR_NTRes
        base = base.lower() if bits & self.LOWER_BASE else base
        return f"{base}{dot}{extension.lower() if bits & self.LOWER_EXTENSION else extension}"

    def type(self, node: Node) -> int:
        return stat.S_IFDIR if node.is_directory() else stat.S_IFREG

    def attributes(self, node: Node) -> Attributes:
        if node.is_directory():
            return Attributes(stat.S_IFDIR | 0o755, 0, 0, 0, "")
        mark = f"{node.cluster}.{node.dirent.DIR_WrtDate}.{node.dirent.DIR_WrtTime}"
        return Attributes(stat.S_IFREG | 0o644, 0, 0, node.dirent.DIR_FileSize, mark)

    def open(self, node: Node) -> BinaryIO:
        size = node.dirent.DIR_FileSize
        runs = self._runs(node.cluster, -(-size // self._system.cluster_size))
        return RunlistStream(self._system.data_stream, runs, size, self._system.cluster_size)  # type: ignore[no-any-return]

    def _runs(self, cluster: int, most: int) -> list[tuple[int, int]]:
        """Return the runs of a chain of clusters, of as many of them; a chain may be a ring."""
        runs: list[tuple[int, int]] = []
        for each in islice(self._system.fat.chain(cluster), most) if most else ():
            if runs and each - 2 == sum(runs[-1]):
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((each - 2, 1))
        return runs

    def target(self, node: Node) -> str:
        raise GuestError("vfat has no links")
