"""An object that is uploaded in parts, from memory, and gone on with after a crash.

What the server says it has is not believed: a part counts only where its ETag is an MD5, and whoever sends it compares that with its own.
"""

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence

from adapters.magalu.storage import Part, Storage
from migrate.errors import TargetError
from migrate.run import Run
from migrate.target import ObjectRef
from migrate.text import shown

MIB = 1 << 20
MIN_PART = 5 * MIB
MAX_PART = 5 << 30
MAX_PARTS = 10_000
"""Limits of a multipart upload. Source: Magalu's product limits (10,000 parts); S3's own for the sizes."""

OBJECT_LIMIT = 5 * 10**12
"""Bytes of the largest object. Source: Magalu's product limits, 5 TB."""

MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?')
Pace = Callable[[int], object]
"""Waits until so many bytes may go."""


def part_size(most_bytes: int) -> int:
    """Return the least size of parts, whole MiB, of which an object of so many bytes does not need too many."""
    return -(-most_bytes // (MAX_PARTS * MIB)) * MIB


def at_once(count: int) -> None:
    """No limit."""


class PartedUpload:
    """One unfinished upload. Implements migrate.target.Upload."""

    def __init__(
        self,
        run: Run,
        storage: Storage,
        bucket: str,
        key: str,
        mark: str,
        id_: str,
        part_bytes: int,
        pace: Pace = at_once,
    ) -> None:
        self._run = run
        self._storage = storage
        self._bucket = bucket
        self._key = key
        self._mark = mark
        self.id = id_
        self.part_bytes = part_bytes
        self._pace = pace
        self._etags: dict[int, str] = {}

    def arrived(self) -> Mapping[int, str]:
        """Return the MD5 of each part that the server lists once, or always with the same content.

        SeaweedFS lists a part that was sent twice with both its contents, in any order; which one it would take is not known.
        """
        listed: dict[int, set[str]] = {}
        for part in self._storage.parts(self._bucket, self._key, self.id):
            listed.setdefault(part.number, set()).add(part.etag)
        found = {number: etags.pop() for number, etags in listed.items() if len(etags) == 1}
        self._etags = {number: etag for number, etag in found.items() if MD5_ETAG.fullmatch(etag)}
        return {number: _md5(etag) for number, etag in self._etags.items()}

    def send(self, number: int, content: bytes, md5: str) -> None:
        if number > MAX_PARTS:
            raise TargetError(
                f"{self._bucket}/{self._key} would need more than {MAX_PARTS} parts of {self.part_bytes} bytes."
            )
        sent = self._storage.send_part(
            self._bucket,
            self._key,
            self.id,
            number,
            _Body(content, self._run, self._pace),
            base64.b64encode(bytes.fromhex(md5)).decode(),
        )
        self._etags[number] = sent.etag

    def complete(self, md5: Sequence[str], length: int) -> ObjectRef:
        """A second call, after the first one's answer was lost, finds the object."""
        parts = [Part(number, 0, self._etags.get(number, f'"{one}"')) for number, one in enumerate(md5, 1)]
        try:
            self._storage.complete(self._bucket, self._key, self.id, parts)
        except TargetError as error:
            # A completion whose answer was lost is tried again by boto3, and then finds no such upload.
            if error.status != 404 or self._object(length) is None:
                raise
        made = self._object(length)
        if made is None:
            found = self._storage.stored(self._bucket, self._key)
            raise TargetError(
                f"{self._bucket}/{self._key} was uploaded, and is not what was sent: {length} bytes with mark {self._mark} were sent, "
                f"found: {f'{found.bytes} bytes with mark {shown(found.mark or str())}' if found else 'nothing'}.",
                hint="Somebody else may use the same bucket and key: run the same command again, or choose another bucket.",
            )
        return made

    def give_up(self) -> None:
        self._storage.abort(self._bucket, self._key, self.id)

    def _object(self, length: int) -> ObjectRef | None:
        found = self._storage.stored(self._bucket, self._key)
        if found is None or (found.bytes, found.mark) != (length, self._mark):
            return None
        return ObjectRef(self._bucket, self._key, length, self._mark)


def _md5(etag: str) -> str:
    match = MD5_ETAG.fullmatch(etag)
    return match[1] if match else ""


class _Body(io.BytesIO):
    """A part as boto3 reads it, some KiB at a time: a stop ends it there, and a limit holds it back."""

    def __init__(self, content: bytes, run: Run, pace: Pace) -> None:
        super().__init__(content)
        self._run = run
        self._pace = pace
        self._length = len(content)

    def __len__(self) -> int:
        return self._length

    def read(self, size: int | None = -1, /) -> bytes:
        self._run.check()
        content = super().read(size)
        self._pace(len(content))
        return content
