"""An exported disk, read by ranges of its object. S3 tells nothing of holes: zeros are found while they are read."""

import re
from collections.abc import Iterator

from adapters.aws.account import Account, Answered
from adapters.aws.token import ExportedDisk
from migrate.errors import SourceBusy, SourceError
from migrate.source import Extent

UNIT = 512 << 10
"""As with EBS direct: what a look needs lies scattered in pieces of some kilobytes, and a request takes some 30 ms whatever it asks for."""
CHANGED = "PreconditionFailed"
GONE = ("NoSuchKey", "NoSuchBucket")


class ObjectDisk:
    """A raw disk in a bucket, a migrate.nbd_server.RemoteDisk. It is read as it was when it was exported: another object under its key is refused."""

    unit = UNIT

    def __init__(self, account: Account, disk: ExportedDisk) -> None:
        self._account = account
        self._disk = disk
        self.name = disk.name
        self.size = disk.size

    def extents(self) -> Iterator[Extent]:
        yield Extent(0, self.size, False)

    def read(self, offset: int, length: int) -> bytes:
        """Return exactly these bytes. Raise SourceError where they cannot be had, in six tries."""
        where = f"{self._disk.bucket}/{self._disk.key}"
        what = f"read {length} bytes at {offset} of {where}"
        last = offset + length - 1

        def fetch() -> bytes:
            answer = self._account.s3.get_object(
                Bucket=self._disk.bucket, Key=self._disk.key, Range=f"bytes={offset}-{last}", IfMatch=self._disk.etag
            )
            told = answer.get("ContentRange", "")
            if not re.fullmatch(rf"bytes {offset}-{last}/{self.size}", told):
                raise SourceError(f"{what}: S3 answered with {told[:60] or 'no range'}")
            return answer["Body"].read()

        def fetched() -> bytes:
            self._account.pace.wait(self._account.run)
            content = self._account.asked("s3", what, fetch)
            self._account.pace.answered()
            if len(content) != length:
                raise SourceBusy(f"{what}: {len(content)} bytes came", hint="Check the network, then run it again.")
            return content

        try:
            return self._account.tries(what, fetched)
        except Answered as error:
            if error.code == CHANGED:
                message = f"{where} is not what AWS exported: somebody has changed it"
            elif error.code in GONE:
                message = f"{where} is gone: somebody has deleted it"
            else:
                raise
        raise SourceError(message, hint="Take back what is left with `magalu-migrate clean`, and start anew.")
