"""The ndb package database of SUSE (Packages.db): its headers, as `rpmdb --importdb` takes them. Debian's rpm is built without ndb.

Bytes in, bytes out; what the guest wrote is checked, not trusted. Source: rpm, lib/backend/ndb/rpmpkg.c.
"""

import struct
import zlib
from collections.abc import Iterator

from migrate.errors import GuestError

PAGE = 4096
SLOT = BLOCK = 16
DATABASE_HEADER = 32
BLOB_HEAD = struct.Struct("<4sIII")  # "BlbS", number of the package, time, length
BLOB_TAIL = struct.Struct("<II4s")  # Adler-32 of the head and the blob, length, "BlbE"

HEADER_MAGIC = b"\x8e\xad\xe8\x01\x00\x00\x00\x00"
"""Before each header of a list; a database leaves it out. Source: rpm, docs/manual/format_header.md."""


def header_list(database: bytes) -> bytes:
    """Return the headers of all packages. Raise GuestError where the database is damaged."""
    return b"".join(HEADER_MAGIC + blob for blob in _blobs(database))


def _blobs(database: bytes) -> Iterator[bytes]:
    try:
        magic, version, _, pages, _ = struct.unpack_from("<4sIIII", database)
        if magic != b"RpmP" or version != 0:
            raise GuestError(
                f"the guest's RPM database is no ndb of version 0: it begins with {magic!r}, version {version}"
            )
        for at in range(DATABASE_HEADER, pages * PAGE, SLOT):
            mark, number, block, _ = struct.unpack_from("<4sIII", database, at)
            if mark != b"Slot":
                raise GuestError(f"the guest's RPM database is damaged: no slot at byte {at}")
            if block:
                yield _blob(database, number, block * BLOCK)
    except struct.error as error:
        raise GuestError(f"the guest's RPM database is cut off: {len(database)} bytes") from error


def _blob(database: bytes, number: int, at: int) -> bytes:
    mark, named, _, length = BLOB_HEAD.unpack_from(database, at)
    end = at + BLOB_HEAD.size + length
    padded = -(BLOB_HEAD.size + length + BLOB_TAIL.size) % BLOCK
    digest, again, tail = BLOB_TAIL.unpack_from(database, end + padded)
    whole = (mark, named, again, tail) == (b"BlbS", number, length, b"BlbE")
    if not whole or zlib.adler32(database[at : end + padded]) != digest:
        raise GuestError(f"the guest's RPM database is damaged: package {number} at byte {at}")
    return database[at + BLOB_HEAD.size : end]
