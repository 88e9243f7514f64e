"""The disk flows into an object: read once, packed, and sent in parts while it is still read. Nothing is staged.

The first part, which holds the header, waits in the job's folder and is sent last: until then nobody could take the object for an image. A second
call goes on where the first one ended: a part that has arrived is neither read nor sent again, and one that was on its way lies in the job's folder
and is not read again. After a kill, what is read twice fills two parts at most: one that was not full, and what was read ahead.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from migrate import journal
from migrate.block_map import CHUNK, BlockMap
from migrate.blocks import Disk
from migrate.errors import MigrateError
from migrate.estimate import largest
from migrate.journal import Head, Journal, Past
from migrate.qcow2 import Compression, Qcow2Writer, packer
from migrate.run import Note, Progress, Run
from migrate.stream import chunks, needed
from migrate.target import ObjectRef, Target, Upload
from migrate.text import size
from migrate.whole_file import write_whole

SENDERS = 2
"""Parts on their way at a time. After a kill these two are sent again, and no other."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an object goes, and where its journal and first part lie meanwhile. `keep` is a file that gets the image, too.

    `limit` is how large the file may become, in bytes; None where it is to be imported, and the target's own limit of images holds.
    """

    key: str
    folder: Path
    keep: Path | None = None
    limit: int | None = None

    @property
    def journal(self) -> Path:
        return self.folder / "transfer.journal"

    @property
    def first_part(self) -> Path:
        return self.folder / "transfer.first"

    @property
    def kept_draft(self) -> Path | None:
        return self.keep and self.keep.with_name(self.keep.name + ".part")

    def part(self, number: int) -> Path:
        """Where a part lies while it is on its way."""
        return self.folder / f"transfer.{number}"

    def forget(self) -> None:
        for path in (self.journal, self.first_part, *self.folder.glob("transfer.[0-9]*")):
            path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Transferred:
    """An object that holds the image, and what was read from the disk for it."""

    stored: ObjectRef
    blocks: BlockMap


def transfer(
    run: Run,
    uri: str,
    target: Target,
    place: Place,
    stage: str,
    compression: Compression = Compression.ZLIB,
    still: Callable[[], None] = lambda: None,
) -> Transferred:
    """The disk behind an NBD endpoint is an object of the target: one compressed qcow2. `still` is called once all of it is read, and before
    it becomes an object: it raises where what was read is not one state of the disk.

    Raise TargetError where storage refuses; MigrateError where the disk cannot be read or the image becomes larger than the target
    takes: the object is given up then. Stopped keeps what has arrived.
    """
    with _room(place), Disk(uri) as disk:
        earlier = _earlier(place, disk, compression)
        if earlier is not None and (stored := _stored(target, place, earlier)) is not None:
            run.tell(Note("an earlier run has sent the whole disk"))
            _keep(place)
            return Transferred(stored, _map(earlier))
        upload, past, done = _begun(run, target, place, disk, compression, earlier)
        limit = target.file_limit if place.limit is None else place.limit
        with closing(journal.begin(place.journal, past)) as written:
            parts = _Parts(run, upload, written, place, past)
            with parts.open():
                writer = Qcow2Writer(parts.append, disk.size, compression)
                sha256 = {chunk.number: chunk.sha256 for chunk in past.chunks}
                for laid in past.chunks:
                    for number, cluster in laid.clusters():
                        writer.add(number, cluster)
                total = needed(disk)
                start = past.chunks[-1].number + 1 if past.chunks else 0
                for chunk in chunks(run, disk, packer(compression), start=start):
                    written.chunk(chunk)
                    sha256[chunk.number] = chunk.sha256
                    for number, cluster in chunk.clusters:
                        writer.add(number, cluster)
                    done += chunk.read
                    run.tell(Progress(stage, min(done, total), total, "B", f"{size(writer.length)} packed"))
                    if writer.length > limit:
                        _too_large(limit, place, upload, writer.length)
                still()
                stored = parts.finish(writer)
    _keep(place)
    return Transferred(stored, BlockMap(disk.size, sha256))


@contextmanager
def _room(place: Place) -> Iterator[None]:
    """Files of ours are written in the block. Raise MigrateError where they cannot be; an upload's errors are the target's."""
    try:
        yield
    except OSError as error:
        where = " or ".join(str(path) for path in (place.folder, place.keep) if path)
        raise MigrateError(
            f"{where} cannot be written: {error.strerror or error}",
            hint="Free space there, and run the same command again: what has arrived in the bucket is not sent again.",
        ) from error


def _earlier(place: Place, disk: Disk, compression: Compression) -> Past | None:
    """What an earlier run did for the same object of the same disk."""
    past = journal.read(place.journal)
    if past is None:
        return None
    head = past.head
    same = (head.key, head.disk_bytes, head.compression) == (place.key, disk.size, compression)
    return past if same else None


def _stored(target: Target, place: Place, past: Past) -> ObjectRef | None:
    """The object, where an earlier run was ended after it had completed it."""
    stored = target.stored(place.key, past.head.mark)
    if stored is None or stored.bytes != past.length or (place.kept_draft and not place.kept_draft.exists()):
        return None
    return stored


def _keep(place: Place) -> None:
    if place.keep and place.kept_draft:
        place.kept_draft.replace(place.keep)


def _map(past: Past) -> BlockMap:
    return BlockMap(past.head.disk_bytes, {chunk.number: chunk.sha256 for chunk in past.chunks})


def _begun(
    run: Run, target: Target, place: Place, disk: Disk, compression: Compression, past: Past | None
) -> tuple[Upload, Past, int]:
    """Go on with what an earlier run began, or begin. Return also how many bytes of the disk need not be read again."""
    upload = past and target.resume(place.key, past.head.mark, past.head.upload, past.head.part_bytes)
    if past and upload and upload.part_bytes == past.head.part_bytes:
        arrived, filled = _there(upload, past, place)
        if arrived or filled:
            run.tell(Note(f"going on with an unfinished upload: {len(arrived)} parts have arrived"))
            kept = past.until((1 + len(arrived) + len(filled)) * upload.part_bytes)
            end = (kept[-1].number + 1) * CHUNK if kept else 0
            done = sum(min(piece.end, end) - piece.offset for piece in disk.extents() if piece.offset < end)
            return upload, Past(past.head, kept, arrived, filled), done
    place.forget()
    mark = uuid4().hex
    upload = target.upload(place.key, mark, largest(needed(disk)))
    head = Head(
        upload=upload.id,
        mark=mark,
        key=place.key,
        part_bytes=upload.part_bytes,
        disk_bytes=disk.size,
        compression=compression,
    )
    return upload, Past(head, (), {}), 0


def _there(upload: Upload, past: Past, place: Place) -> tuple[dict[int, str], dict[int, str]]:
    """Return the parts from the second one on, without gaps, of which the storage and the journal say that they have arrived, and those that
    lie in the job's folder as the journal says.

    None counts without the first part, which waits in the job's folder, or without its place in the file that is to be kept.
    """
    arrived: dict[int, str] = {}
    filled: dict[int, str] = {}
    if not place.first_part.exists() or place.first_part.stat().st_size != upload.part_bytes:
        return arrived, filled
    there = upload.arrived()
    for number in count(2):
        if number in past.parts and there.get(number) == past.parts[number]:
            found, md5 = arrived, past.parts[number]
        elif number in past.filled and _md5_of_part(place.part(number), 1, upload.part_bytes) == past.filled[number]:
            found, md5 = filled, past.filled[number]
        else:
            break
        if place.kept_draft is not None and _md5_of_part(place.kept_draft, number, upload.part_bytes) != md5:
            break
        found[number] = md5
    return arrived, filled


def _md5_of_part(path: Path, number: int, part_bytes: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek((number - 1) * part_bytes)
        return _md5(file.read(part_bytes))


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _too_large(limit: int, place: Place, upload: Upload, length: int) -> None:
    upload.give_up()
    place.forget()
    raise MigrateError(
        f"the image has {size(length)} already and is not finished; the target takes {size(limit)}",
        hint="Free space in the guest (old kernels, caches, logs), or move data off the boot disk, and run again. "
        "Nothing was imported; what was sent is deleted.",
    )


class _Parts:
    """Cuts what is appended into parts and sends them; what lies in parts that are there already is passed over."""

    def __init__(self, run: Run, upload: Upload, written: Journal, place: Place, past: Past) -> None:
        self._run = run
        self._upload = upload
        self._journal = written
        self._place = place
        self._md5 = dict(past.parts)
        self._filled = sorted(past.filled)
        """Parts of an earlier run that lie here and are still to be sent."""
        self._buffer = bytearray()
        there = len(past.parts) + len(past.filled)
        self._number = 2 + there if there else 1
        """Of the part that is being filled."""
        self._pass_over = (self._number - 1) * upload.part_bytes
        self._lock = threading.Lock()
        self._on_the_way: list[Future[None]] = []
        self._kept: BinaryIO | None = None

    @contextmanager
    def open(self) -> Iterator[None]:
        """Send while the block lasts. Left by an error, what is on its way arrives or fails, and no other part starts."""
        draft = self._place.kept_draft
        if draft is not None:
            self._kept = draft.open("r+b" if self._pass_over else "wb")
            self._kept.truncate(self._pass_over)
            self._kept.seek(self._pass_over)
        self._pool = ThreadPoolExecutor(SENDERS, "send")
        try:
            for number in self._filled:
                self._submit(number, self._place.part(number).read_bytes())
            yield
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
            if self._kept is not None:
                self._kept.close()

    def append(self, content: bytes) -> None:
        passed = min(self._pass_over, len(content))
        self._pass_over -= passed
        if passed == len(content):
            return
        if self._kept is not None:
            self._kept.write(content[passed:])
        self._buffer += content[passed:]
        while len(self._buffer) >= self._upload.part_bytes:
            part = bytes(memoryview(self._buffer)[: self._upload.part_bytes])  # one copy
            del self._buffer[: self._upload.part_bytes]
            self._full(part)

    def finish(self, writer: Qcow2Writer) -> ObjectRef:
        """Send what is left, the first part with its header last, and make all of them the object."""
        head = writer.finish()
        if self._buffer and self._number > 1:
            self._full(bytes(self._buffer))
            self._buffer.clear()
        self._wait(0)
        first = bytes(self._buffer) if self._number == 1 else self._place.first_part.read_bytes()
        self._send(1, head + first[len(head) :])
        if self._kept is not None:
            self._kept.truncate(writer.length)
            self._kept.seek(0)
            self._kept.write(head)
            self._kept.flush()
            os.fsync(self._kept.fileno())
        return self._upload.complete([self._md5[number] for number in sorted(self._md5)], writer.length)

    def _full(self, part: bytes) -> None:
        number, self._number = self._number, self._number + 1
        if number == 1:
            write_whole(self._place.first_part, part)
            return
        self._submit(number, part)

    def _submit(self, number: int, part: bytes) -> None:
        self._wait(SENDERS - 1)
        self._on_the_way.append(self._pool.submit(self._send, number, part))

    def _send(self, number: int, content: bytes) -> None:
        self._run.check()
        md5 = _md5(content)
        if number > 1 and number not in self._filled:
            # Without fsync: it is gone again before the kernel writes it out, and only a kill needs it.
            self._place.part(number).write_bytes(content)
            with self._lock:
                self._journal.filled(number, md5)
        self._upload.send(number, content, md5)
        with self._lock:
            self._md5[number] = md5
            self._journal.part(number, md5)
        self._place.part(number).unlink(missing_ok=True)

    def _wait(self, most: int) -> None:
        """Return once at most so many parts are on their way. Raise the first one's failure."""
        while len(self._on_the_way) > most:
            self._on_the_way.pop(0).result()
