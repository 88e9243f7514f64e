"""An OVA: the members of a tar archive, found where they lie. Nothing is unpacked. Source: DSP0243, section 5.3; tar(5)."""

import io
import tarfile

from adapters.files.opened import OpenFile, Window, is_plain
from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason

LONGEST_HEADER = 8 << 10
ALL_HEADERS = 4 << 20
ALL_LONG_HEADERS = 128 << 10
"""Bytes that are read of one header, of all, and of all that are longer than a block. tarfile reads extended headers (pax, GNU long
names) whole, as large as they say they are, and searches them with expressions that take the square of their length (CVE-2024-6232)."""

MOST_REASONS = 20

MOST_MEMBERS = 1000
PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)
AGAIN = "Export or copy it again."
PACK_ANEW = "Pack it anew from plain files: tar -C FOLDER -cf VM.ova VM.ovf VM.mf DISK.vmdk"


class _ForwardOnly(io.RawIOBase):
    """The archive for tarfile: only forwards, and only small reads.

    Going back is what an endless loop over a member of negative size needs (CVE-2025-8194).
    """

    def __init__(self, file: OpenFile) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self._left = ALL_HEADERS
        self._left_for_long = ALL_LONG_HEADERS

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise tarfile.ReadError("a member that leads back")
        self._position = offset
        return offset

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= LONGEST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self._left -= size
        if size > tarfile.BLOCKSIZE:
            self._left_for_long -= size
        if self._left < 0 or self._left_for_long < 0:
            raise tarfile.ReadError("more headers than any OVA has")
        data = self._file.read(self._position, size) if self._position < self._file.size else b""
        self._position += len(data)
        return data


def members(file: OpenFile) -> tuple[Window, ...]:
    """Return the archive's members in their order; raise NotMigratable with every reason why it is not followed."""
    subject = printable(file.name)
    reasons: list[Reason] = []
    found: dict[str, Window] = {}
    for member in _read(file, subject):
        shown = printable(member.name, 100)
        if not is_plain(member.name):
            text = f'{subject}: the member "{shown}" has a path or signs that are no file\'s name'
            reasons.append(Reason(Code.NAME, text, PACK_ANEW))
        if member.type not in PLAIN or member.sparse is not None:
            text = f'{subject}: the member "{shown}" is {_kind(member)}, not a plain file'
            reasons.append(Reason(Code.MEMBER_KIND, text, PACK_ANEW))
        elif member.size < 0 or member.offset_data + member.size > file.size:
            text = (
                f'{subject}: the member "{shown}" has {member.size} bytes from {member.offset_data} on, '
                f"and the archive ends at {file.size}"
            )
            reasons.append(Reason(Code.DAMAGED, text, AGAIN))
        elif member.name in found:
            reasons.append(Reason(Code.DUPLICATE, f'{subject}: the member "{shown}" is in it twice', PACK_ANEW))
        else:
            found[member.name] = Window(file, member.name, member.offset_data, member.size)
    if reasons:
        raise NotMigratable(subject, tuple(dict.fromkeys(reasons))[:MOST_REASONS])
    return tuple(found.values())


def _read(file: OpenFile, subject: str) -> list[tarfile.TarInfo]:
    found: list[tarfile.TarInfo] = []
    problem = ""
    try:
        with tarfile.open(fileobj=_ForwardOnly(file), mode="r:", encoding="utf-8") as tar:
            while (member := tar.next()) is not None and len(found) < MOST_MEMBERS:
                found.append(member)
            if len(found) >= MOST_MEMBERS:
                problem = f"it has {MOST_MEMBERS} members or more"
            elif tar.offset < file.size and any(file.read(tar.offset, tarfile.BLOCKSIZE)):
                # tarfile takes a header that it cannot read for the archive's end
                problem = f"what follows its member {len(found)} is not a tar header"
    except (tarfile.TarError, ValueError, LookupError, OverflowError, TypeError, RecursionError) as error:
        # all but the first: tarfile's parsing of numbers, sparse maps and chains in headers that were made for it
        problem = printable(str(error) or type(error).__name__)
    last = found[-1] if found else None
    if problem and last is not None and last.offset_data + last.size > file.size:
        problem = ""  # cut off within the last member, which is said better for that one
    if problem:
        raise NotMigratable(
            subject, [Reason(Code.BAD_ARCHIVE, f"{subject}: not a sound tar archive: {problem}", AGAIN)]
        )
    return found


def _kind(member: tarfile.TarInfo) -> str:
    if member.sparse is not None:
        return "a sparse member"
    words = {
        tarfile.SYMTYPE: "a symbolic link",
        tarfile.LNKTYPE: "a hard link",
        tarfile.DIRTYPE: "a folder",
        tarfile.CHRTYPE: "a character device",
        tarfile.BLKTYPE: "a block device",
        tarfile.FIFOTYPE: "a FIFO",
    }
    return words.get(member.type, f"of the kind {member.type!r}")
