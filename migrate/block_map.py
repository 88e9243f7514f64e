"""What was read from a disk: a SHA-256 for each 4 MiB of it, which says later whether an image still holds the same.

As a file: one line of JSON about the disk, then a line for each chunk that is not known to be zeros, "number sha256".
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from migrate.errors import MigrateError
from migrate.whole_file import write_whole

CHUNK = 4 << 20
VERSION = 1


@dataclass(frozen=True, slots=True)
class BlockMap:
    """The SHA-256 of each chunk by its number, those left out that read as zeros without being read."""

    disk_bytes: int
    sha256: Mapping[int, bytes]

    @property
    def chunks(self) -> int:
        return -(-self.disk_bytes // CHUNK)

    def of(self, number: int) -> bytes:
        return self.sha256.get(number) or sha256_of_zeros(self.length(number))

    def length(self, number: int) -> int:
        """Return the bytes of a chunk: the last one may be shorter."""
        return min(CHUNK, self.disk_bytes - number * CHUNK)

    @property
    def digest(self) -> str:
        """One hash for the whole disk: the SHA-256 of all chunks' SHA-256, in order."""
        whole = hashlib.sha256()
        for number in range(self.chunks):
            whole.update(self.of(number))
        return whole.hexdigest()

    def write(self, path: Path) -> None:
        write_whole(path, "".join(f"{line}\n" for line in self._lines()).encode())

    def _lines(self) -> Iterator[str]:
        yield json.dumps({"version": VERSION, "disk_bytes": self.disk_bytes, "chunk_bytes": CHUNK})
        for number in sorted(self.sha256):
            yield f"{number} {self.sha256[number].hex()}"


def read(path: Path) -> BlockMap:
    """Read a map. Raise MigrateError where the file is none."""
    try:
        head, *lines = path.read_text("ascii").splitlines()
        about = json.loads(head)
        if (about["version"], about["chunk_bytes"]) != (VERSION, CHUNK):
            raise ValueError(head)
        pairs = (line.split(" ") for line in lines)
        return BlockMap(int(about["disk_bytes"]), {int(number): _sha256(digest) for number, digest in pairs})
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise MigrateError(f"{path} cannot be read as a block map", hint="Run the migration again.") from error


def _sha256(text: str) -> bytes:
    digest = bytes.fromhex(text)
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError(text)
    return digest


@cache
def sha256_of_zeros(length: int) -> bytes:
    return hashlib.sha256(bytes(length)).digest()
