"""VMDK: the sparse header, the text descriptor, and a disk of several extents.

qemu is never given a descriptor that a stranger wrote. A disk of one sparse file is opened through its header, which must
not send qemu on to the embedded text; for a disk of several files we write a descriptor of our own, whose extents are the files that
are open already.

Source: VMware, Virtual Disk Format 5.0; block/vmdk.c of QEMU 7.2 for what it does with it.
"""

import re
import struct
from dataclasses import dataclass

from adapters.files.image import LARGEST, SECTOR, Image, bytes_of, wrong_size
from adapters.files.opened import Folder, OpenFile, Window, is_plain, whole
from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason

MAGIC = b"KDMV"
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")
"""magic, version, flags, capacity, grain, descriptor offset and size, entries per grain table, redundant directory, directory,
overhead, unclean shutdown, line ends, compression; all but the flags in sectors."""

LINE_ENDS = b"\n \r\n"
"""What a transfer in text mode changes."""

HAS_LINE_ENDS = 1
DIRECTORY_AT_END = (1 << 64) - 1
LARGEST_TEXT = (1 << 20) - 1
"""Bytes; qemu's ceiling."""

MOST_EXTENTS = 512
"""1 TiB in parts of 2 GiB; each is an open file, and 1024 of them is what a process usually may have."""

SEVERAL_FILES = ("monolithicflat", "twogbmaxextentflat", "twogbmaxextentsparse", "vmfs", "custom")
ONE_FILE = ("monolithicsparse", "streamoptimized")
SNAPSHOTS = ("vmfssparse", "sesparse", "vmfssesparse")

NO_PARENT = "ffffffff"
AGAIN = "Export or copy it again."
CONSOLIDATE = "Delete the snapshots of the VM (consolidate) and export it again."

LONGEST_LINE = 2048
"""Characters; a guard against expressions that take their time on megabytes of blanks. The longest real line is a file's name."""

FIELD = re.compile(r"([A-Za-z][\w.:-]*)\s*=\s*(.*)")
EXTENT = re.compile(
    r'(RW|RDONLY|NOACCESS)\s+(\d{1,18})\s+([A-Z0-9]+)(?:\s+"([^"]*)"(?:\s+(\d{1,18}))?)?', re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class VmdkExtent:
    """A line of a descriptor. `sectors` and `offset` in sectors; `file` is None for zeros."""

    access: str
    sectors: int
    kind: str
    file: str | None
    offset: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    create_type: str
    extents: tuple[VmdkExtent, ...]


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """Sizes and offsets in bytes."""

    capacity: int
    descriptor_offset: int
    descriptor_size: int
    unclean: bool


def is_text(window: Window) -> bool:
    return window.read(0, 64).lstrip().lower().startswith(b"# disk descriptorfile")


def vmdk(window: Window, folder: Folder | None) -> Image:
    """Return the image; raise NotMigratable with every reason. `folder` is where the extents lie, None within an archive."""
    if window.read(0, 4) == MAGIC:
        return _one_sparse_file(window)
    return _several_files(window, folder)


def _one_sparse_file(window: Window) -> Image:
    name = window.name
    header = sparse_header(window)
    reasons = wrong_size(name, header.capacity)
    embedded = window.read(header.descriptor_offset, min(header.descriptor_size, LARGEST_TEXT))
    if not header.descriptor_offset or not embedded.split(b"\0", 1)[0].strip():
        text = f"{name}: it is one extent of a disk of several files"
        raise NotMigratable(
            name, [Reason(Code.DAMAGED, text, "Give the disk's small text file, the one without a number.")]
        )
    try:
        inner = descriptor(embedded, name)
    except NotMigratable as refused:
        raise NotMigratable(name, [*reasons, *refused.reasons]) from None
    if inner.create_type not in ONE_FILE:
        reasons.append(_unsupported(name, inner.create_type))
    if any(extent.file is not None and not is_plain(extent.file) for extent in inner.extents):
        reasons.append(_elsewhere(name, next(e.file for e in inner.extents if e.file and not is_plain(e.file)) or ""))
    if reasons:
        raise NotMigratable(name, reasons)
    # vmdk follows parentFileNameHint by itself; "backing": None keeps it from that a second time.
    node = {"driver": "vmdk", "backing": None, "file": bytes_of(window)}
    return Image(name, "vmdk", header.capacity, node, _notes(window, header))


def _several_files(window: Window, folder: Folder | None) -> Image:
    name = window.name
    if window.size > LARGEST_TEXT:
        text = f"{name}: a VMDK descriptor of {window.size} bytes; at most {LARGEST_TEXT} are read"
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    found = descriptor(window.read(0, LARGEST_TEXT), name)
    if found.create_type not in SEVERAL_FILES:
        raise NotMigratable(name, [_unsupported(name, found.create_type)])
    if folder is None:
        text = f"{name}: it is a VMDK descriptor, whose data is in further files"
        remedy = "Export it with streamOptimized disks, one file each (ovftool does)."
        raise NotMigratable(name, [Reason(Code.DATA_ELSEWHERE, text, remedy)])

    reasons: list[Reason] = []
    files: list[OpenFile | None] = []
    notes: list[str] = []
    for extent in found.extents:
        try:
            file, said = _extent_file(name, extent, folder)
            files.append(file)
            notes += said
        except NotMigratable as refused:
            reasons += refused.reasons
    sectors = sum(extent.sectors for extent in found.extents)
    reasons += wrong_size(name, sectors * SECTOR)
    if reasons:
        raise NotMigratable(name, tuple(dict.fromkeys(reasons)))

    lines = [_own_line(extent, file, folder) for extent, file in zip(found.extents, files, strict=True)]
    text = (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        'createType="twoGbMaxExtentSparse"\n' + "".join(f"{line}\n" for line in lines)
    )
    own = {"driver": "file", "filename": folder.memory("descriptor", text.encode("ascii"))}
    return Image(name, "vmdk", sectors * SECTOR, {"driver": "vmdk", "backing": None, "file": own}, tuple(notes))


def _extent_file(name: str, extent: VmdkExtent, folder: Folder) -> tuple[OpenFile | None, tuple[str, ...]]:
    """The open file of an extent, which holds all that the extent tells of, and notes; no file for an extent of zeros."""
    if extent.file is None:
        return None, ()
    if not is_plain(extent.file):
        raise NotMigratable(name, [_elsewhere(name, extent.file)])
    file = folder.file(extent.file)
    if extent.kind == "SPARSE":
        window = whole(file)
        header = sparse_header(window)
        if header.capacity != extent.sectors * SECTOR:
            text = f"{name}: {file.name} holds {header.capacity} bytes of the disk, {extent.sectors * SECTOR} were told"
            raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
        return file, _notes(window, header)
    needed = (extent.offset + extent.sectors) * SECTOR
    if file.size < needed:
        text = f"{name}: {file.name} has {file.size} bytes, {needed} were told"
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    return file, ()


def _own_line(extent: VmdkExtent, file: OpenFile | None, folder: Folder) -> str:
    """A line for qemu, which passes over all access but RW, and over ZERO, as if those sectors were not there."""
    if file is None:
        zeros = folder.memory("zeros", size=extent.sectors * SECTOR)
        return f'RW {extent.sectors} FLAT "{zeros}" 0'
    if extent.kind == "SPARSE":
        return f'RW {extent.sectors} SPARSE "{file.proc_path}"'
    return f'RW {extent.sectors} FLAT "{file.proc_path}" {extent.offset}'


def sparse_header(window: Window) -> SparseHeader:
    """The header of a sparse extent; raise NotMigratable where it is not one, or would send qemu elsewhere."""
    name, sector = window.name, window.read(0, SECTOR)
    if len(sector) < SECTOR or not sector.startswith(MAGIC):
        text = f"{name}: it does not begin with the header of a sparse VMDK"
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    fields = HEADER.unpack_from(sector)
    _, version, flags, capacity, grain, offset, size, _, _, directory, _, unclean, line_ends, compression = fields
    wrong: list[str] = []
    if version not in (1, 2, 3):
        wrong.append(f"version {version}, 1 to 3 are known")
    if capacity == 0:
        # qemu then reads the embedded text as a descriptor, and opens every file that it names (vmdk_open_vmdk4).
        wrong.append("a capacity of zero")
    if grain < 8 or grain & (grain - 1):
        wrong.append(f"grains of {grain} sectors, a power of two from 8 was wanted")
    if flags & HAS_LINE_ENDS and line_ends != LINE_ENDS:
        wrong.append("line ends that a transfer in text mode changed")
    if compression not in (0, 1):
        wrong.append(f"the unknown compression {compression}")
    if directory == DIRECTORY_AT_END and not _is_footer(window.read(window.size - 2 * SECTOR, SECTOR), sector):
        wrong.append("no footer that repeats it at the file's end, so the file was cut off")
    if wrong:
        text = f"{name}: its VMDK header has " + ", ".join(wrong)
        raise NotMigratable(name, [Reason(Code.DAMAGED, text, AGAIN)])
    return SparseHeader(capacity * SECTOR, offset * SECTOR, size * SECTOR, bool(unclean))


def _is_footer(footer: bytes, header: bytes) -> bool:
    """Whether it is the header again but for the directory's place (bytes 56 to 63), which must now be told.

    qemu takes the footer in the header's stead, after it has looked at the header's capacity.
    """
    if len(footer) < SECTOR or footer[56:64] == header[56:64]:
        return False
    return footer[:48] == header[:48] and footer[73:79] == header[73:79]


def descriptor(data: bytes, name: str) -> Descriptor:
    """Read a descriptor's text, to its first NUL; raise NotMigratable with every reason why it is not followed."""
    text = data.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    fields: dict[str, set[str]] = {}
    extents: list[VmdkExtent] = []
    reasons: list[Reason] = []
    for number, line in enumerate(re.split(r"\r?\n", text), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if len(line) > LONGEST_LINE:
            reasons.append(Reason(Code.DAMAGED, f"{name}: line {number} of its VMDK descriptor has no end", AGAIN))
            break
        if match := EXTENT.fullmatch(line):
            access, sectors, kind, file, offset = match.groups()
            extents.append(VmdkExtent(access.upper(), int(sectors), kind.upper(), file, int(offset or 0)))
        elif match := FIELD.fullmatch(line):
            fields.setdefault(match[1].lower(), set()).add(match[2].strip('"').lower())
        else:
            text_of = f'{name}: line {number} of its VMDK descriptor is not understood: "{printable(line, 60)}"'
            reasons.append(Reason(Code.DAMAGED, text_of, AGAIN))
            break

    create_types = fields.get("createtype", set())
    if len(create_types) != 1 and not reasons:
        text_of = f"{name}: its VMDK descriptor names {len(create_types)} disk types, one was wanted"
        reasons.append(Reason(Code.DAMAGED, text_of, AGAIN))
    if fields.get("parentcid", {NO_PARENT}) != {NO_PARENT} or "parentfilenamehint" in fields:
        parent = next(iter(fields.get("parentfilenamehint", ())), "")
        of = f' of "{printable(parent)}"' if parent else ""
        reasons.append(Reason(Code.HAS_PARENT, f"{name}: it is a snapshot's difference{of}", CONSOLIDATE))
    if _is_encrypted(fields):
        text_of = f"{name}: VMware has encrypted it"
        reasons.append(
            Reason(Code.ENCRYPTED, text_of, "Decrypt the VM in vSphere (storage policy) and export it again.")
        )
    reasons += _extent_reasons(name, extents)
    if reasons:
        raise NotMigratable(name, reasons)
    return Descriptor(next(iter(create_types)), tuple(extents))


def _is_encrypted(fields: dict[str, set[str]]) -> bool:
    """Workstation writes encryption.keySafe and encryption.data; vSphere names its I/O filter (ddb.iofilters = "vmwarevmcrypt")."""
    filters = "".join(fields.get("ddb.iofilters", ()))
    return "vmcrypt" in filters or any(key.startswith(("encryption.", "ddb.encryption")) for key in fields)


def _extent_reasons(name: str, extents: list[VmdkExtent]) -> list[Reason]:
    if not extents:
        return [Reason(Code.DAMAGED, f"{name}: its VMDK descriptor names no extent", AGAIN)]
    if len(extents) > MOST_EXTENTS:
        text = f"{name}: its VMDK descriptor names {len(extents)} extents, at most {MOST_EXTENTS} are opened"
        return [Reason(Code.SIZE, text, "Export it as one file (streamOptimized).")]
    reasons: dict[Reason, None] = {}
    for extent in extents:
        match extent.kind:
            case "FLAT" | "VMFS" | "SPARSE" if extent.file is not None and extent.access != "NOACCESS":
                pass
            case "ZERO" if extent.file is None:
                pass
            case "VMFSSPARSE" | "SESPARSE":
                reasons[
                    Reason(Code.HAS_PARENT, f"{name}: it is a snapshot's difference ({extent.kind})", CONSOLIDATE)
                ] = None
            case kind:
                text = f"{name}: an extent {extent.access} {printable(kind, 20)}; FLAT, VMFS, SPARSE and ZERO are read"
                reasons[Reason(Code.UNSUPPORTED_FORMAT, text, "Export the disk as one file (streamOptimized).")] = None
        if not 0 < extent.sectors <= LARGEST // SECTOR or extent.offset > LARGEST // SECTOR:
            reasons[Reason(Code.SIZE, f"{name}: an extent of {extent.sectors} sectors at {extent.offset}")] = None
    return list(reasons)


def _unsupported(name: str, create_type: str) -> Reason:
    shown = printable(create_type, 40)
    if create_type in SNAPSHOTS:
        return Reason(Code.HAS_PARENT, f"{name}: it is a snapshot's difference ({shown})", CONSOLIDATE)
    text = f'{name}: a VMDK of the type "{shown}" is not read'
    return Reason(Code.UNSUPPORTED_FORMAT, text, "Export the disk as one file (streamOptimized).")


def _elsewhere(name: str, file: str) -> Reason:
    text = f'{name}: it names data outside of its folder: "{printable(file)}"'
    return Reason(Code.DATA_ELSEWHERE, text, "Put all files of the disk in one folder, and name them without a path.")


def _notes(window: Window, header: SparseHeader) -> tuple[str, ...]:
    if not header.unclean:
        return ()
    return (f"{window.name} was not closed cleanly by VMware; if its VM is running, shut it down and start again.",)
