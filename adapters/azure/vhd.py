"""The footer of a fixed VHD: managed disks are downloaded with one behind their last sector.

Source: Virtual Hard Disk Image Format Specification 1.0, Microsoft 2006, "Hard Disk Footer Format".
"""

import struct

from migrate.errors import SourceError

SECTOR = 512
COOKIE = b"conectix"
FIXED = 2
_SIZE, _KIND, _CHECKSUM = slice(48, 56), slice(60, 64), slice(64, 68)


def size_of(name: str, length: int, footer: bytes) -> int:
    """Return how many bytes of a blob of this length are the disk, by the footer's own size field.

    Raise SourceError where the footer is not sound, or leaves more or less than itself behind the disk.
    """
    if len(footer) != SECTOR or not footer.startswith(COOKIE):
        raise SourceError(
            f"{name}: the download has no VHD footer at its end ({length} bytes), so where the disk ends is not known",
            hint="It may not be a disk at all. Make the snapshot anew: run `magalu-migrate clean`, then the same command.",
        )
    kind = int.from_bytes(footer[_KIND], "big")
    if kind != FIXED:
        raise SourceError(f"{name}: the download is a VHD of kind {kind}; a fixed one ({FIXED}) was wanted")
    checksum = ~(sum(footer) - sum(footer[_CHECKSUM])) & 0xFFFFFFFF
    if checksum != int.from_bytes(footer[_CHECKSUM], "big"):
        raise SourceError(f"{name}: the checksum of the download's VHD footer does not match: it is damaged")
    size = int(struct.unpack(">Q", footer[_SIZE])[0])
    if size + SECTOR != length or size % SECTOR:
        raise SourceError(
            f"{name}: its VHD footer tells of {size} bytes, and the download has {length - SECTOR} before it"
        )
    return size
