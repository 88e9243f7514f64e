"""The upload of a file in parts, which a second run goes on with.

What the server says it has is not believed: a part counts only where its number, size and MD5 are those of the file's own part. The
file's checksum is written down with the object, and an object that does not carry it is not ours.
"""

import base64
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from adapters.magalu.storage import Part, Storage
from migrate.errors import TargetError
from migrate.run import Note, Progress, Run
from migrate.target import ObjectRef

MIB = 1 << 20
MIN_PART = 5 * MIB
MAX_PART = 5 << 30
MAX_PARTS = 10_000
"""Limits of a multipart upload. Source: Magalu's product limits (10,000 parts); S3's own for the sizes."""

CHUNK = MIB
TELL_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of the file, from `offset` on. `number` counts from 1, `md5` is hex."""

    number: int
    offset: int
    bytes: int
    md5: str

    def is_same(self, server: Part) -> bool:
        """Whether the server's part is this very one. A part's ETag is its MD5; an ETag that is none is not believed."""
        return server.bytes == self.bytes and server.etag.strip('"').lower() == self.md5


@dataclass(frozen=True, slots=True)
class FilePrint:
    """A file's checksums: of the whole, and of each part."""

    bytes: int
    sha256: str
    parts: tuple[FilePart, ...]


def part_size(file_bytes: int, wanted: int) -> int:
    """Return the size of all parts but the last, in bytes: the wanted one, or as much more as 10,000 parts need."""
    needed = -(-file_bytes // MAX_PARTS)
    return max(wanted, -(-needed // MIB) * MIB)


def file_print(run: Run, path: Path, part_bytes: int) -> FilePrint:
    """Read the file once and return its checksums."""
    total = path.stat().st_size
    size = part_size(total, part_bytes)
    whole = hashlib.sha256()
    parts: list[FilePart] = []
    meter = _Meter(run, total, "checksum")
    with path.open("rb", buffering=0) as file:
        for offset in range(0, total, size):
            length = min(size, total - offset)
            md5 = hashlib.md5(usedforsecurity=False)
            for chunk in _chunks(file.fileno(), offset, length, path):
                run.check()
                whole.update(chunk)
                md5.update(chunk)
                meter.add(len(chunk))
            parts.append(FilePart(len(parts) + 1, offset, length, md5.hexdigest()))
    return FilePrint(total, whole.hexdigest(), tuple(parts))


class Uploader:
    """Uploads files to one storage, several parts at a time."""

    def __init__(self, run: Run, storage: Storage, *, part_bytes: int, threads: int) -> None:
        self._run = run
        self._storage = storage
        self._part_bytes = part_bytes
        self._threads = threads

    def upload(self, path: Path, bucket: str, key: str) -> ObjectRef:
        """The file is stored under the key. A second call sends the missing parts only, or nothing where all is there."""
        if path.stat().st_size == 0:
            raise TargetError(f"{path} is empty: there is nothing to upload.")
        file = file_print(self._run, path, self._part_bytes)
        ref = ObjectRef(bucket, key, file.bytes)
        if self._is_stored(file, bucket, key):
            self._run.tell(Note(f"{bucket}/{key} is there already, complete and of the same checksum"))
            return ref
        resumed = self._resumable(file, bucket, key)
        if resumed is not None:
            self._send(path, file, bucket, key, *resumed)
            if self._is_stored(file, bucket, key):
                return ref
            # The unfinished upload was another file's that begins alike: its checksum is on the object now.
            self._storage.delete(bucket, key)
        self._send(path, file, bucket, key, self._storage.begin_upload(bucket, key, file.sha256), {})
        if not self._is_stored(file, bucket, key):
            found = self._storage.stored(bucket, key)
            raise TargetError(
                f"{bucket}/{key} was uploaded, and is not what was sent: {file.bytes} bytes with checksum {file.sha256} were sent, "
                f"found: {f'{found.bytes} bytes with checksum {found.sha256}' if found else 'nothing'}.",
                hint="Somebody else may use the same bucket and key: run the same command again, or choose another bucket.",
            )
        return ref

    def _is_stored(self, file: FilePrint, bucket: str, key: str) -> bool:
        found = self._storage.stored(bucket, key)
        return found is not None and (found.bytes, found.sha256) == (file.bytes, file.sha256)

    def _resumable(self, file: FilePrint, bucket: str, key: str) -> tuple[str, dict[int, Part]] | None:
        """The unfinished upload that has most of this file, and what it has; uploads with nothing of it are aborted."""
        best: tuple[str, dict[int, Part]] | None = None
        for upload in self._storage.unfinished(bucket, key):
            good = _trusted(file, self._storage.parts(bucket, key, upload))
            if not good:
                self._storage.abort(bucket, key, upload)
            elif best is None or len(good) > len(best[1]):
                best = upload, good
        if best is not None:
            self._storage.claim(bucket, key)
            self._run.tell(
                Note(f"going on with an unfinished upload: {len(best[1])} of {len(file.parts)} parts are there")
            )
        return best

    def _send(self, path: Path, file: FilePrint, bucket: str, key: str, upload: str, there: dict[int, Part]) -> None:
        """Send the parts that are not there, then make all of them one object."""
        missing = [part for part in file.parts if part.number not in there]
        meter = _Meter(self._run, file.bytes, "sent")
        meter.add(file.bytes - sum(part.bytes for part in missing))
        give_up = threading.Event()
        with path.open("rb", buffering=0) as opened, ThreadPoolExecutor(self._threads, "upload") as pool:

            def send(part: FilePart) -> Part | None:
                if give_up.is_set():
                    return None
                body = _PartBody(opened.fileno(), path, part, self._run, meter)
                md5 = base64.b64encode(bytes.fromhex(part.md5)).decode()
                return self._storage.send_part(bucket, key, upload, part.number, body, md5)

            futures = [pool.submit(send, part) for part in missing]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                give_up.set()  # where one failed, those that are on their way arrive, and no other starts
        sent = [future.result() for future in futures]  # raises the first failure
        parts = there | {part.number: part for part in sent if part is not None}
        self._complete(file, bucket, key, upload, [parts[number] for number in sorted(parts)])

    def _complete(self, file: FilePrint, bucket: str, key: str, upload: str, parts: list[Part]) -> None:
        try:
            self._storage.complete(bucket, key, upload, parts)
        except TargetError as error:
            # A completion whose answer was lost is tried again by boto3, and then finds no such upload.
            if error.status != 404 or not self._is_stored(file, bucket, key):
                raise


def _trusted(file: FilePrint, parts: list[Part]) -> dict[int, Part]:
    """The parts that are the file's own, by number.

    A number that is listed more than once is the file's own only if each of them is: SeaweedFS lists a part that was sent twice with
    both its contents, in any order.
    """
    listed: dict[int, list[Part]] = {}
    for part in parts:
        listed.setdefault(part.number, []).append(part)
    return {
        part.number: found[0]
        for part in file.parts
        if (found := listed.get(part.number)) and all(part.is_same(one) for one in found)
    }


class _PartBody:
    """One part of the file, as boto3 reads it: from its own offset, so that several threads share one file.

    A stop ends it within a chunk; a retry rewinds it, and the meter with it.
    """

    def __init__(self, fd: int, path: Path, part: FilePart, run: Run, meter: "_Meter") -> None:
        self._fd = fd
        self._path = path
        self._part = part
        self._run = run
        self._meter = meter
        self._at = 0

    def __len__(self) -> int:
        return self._part.bytes

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self)}[whence]
        target = min(max(0, start + offset), len(self))
        if target < self._at:
            self._meter.add(target - self._at)
        self._at = target
        return target

    def read(self, size: int = -1) -> bytes:
        self._run.check()
        rest = len(self) - self._at
        wanted = rest if size < 0 else min(size, rest)
        block = b"".join(_chunks(self._fd, self._part.offset + self._at, wanted, self._path))
        self._at += len(block)
        self._meter.add(len(block))
        return block


def _chunks(fd: int, offset: int, length: int, path: Path) -> Iterator[bytes]:
    end = offset + length
    while offset < end:
        chunk = os.pread(fd, min(CHUNK, end - offset), offset)
        if not chunk:
            raise TargetError(
                f"{path} became shorter while it was read.", hint="Something else writes to it: let it finish first."
            )
        offset += len(chunk)
        yield chunk


class _Meter:
    """Tells how much is done, a few times a second."""

    def __init__(self, run: Run, total: int, what: str) -> None:
        self._run = run
        self._total = total
        self._what = what
        self._done = 0
        self._next = 0.0
        self._lock = threading.Lock()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            now = time.monotonic()
            if now < self._next and self._done < self._total:
                return
            self._next = now + TELL_EVERY_S
            done = self._done
        self._run.tell(Progress("upload", done, self._total, "B", self._what))
