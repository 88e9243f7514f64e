"""One snapshot's bytes, by EBS direct: which blocks it holds, and each of them with its SHA-256 checked.

Source: the reference of the EBS direct APIs. A list comes in pages, which may be empty although more follow; what is not in it was never
written, and reads as zeros; a token of a block holds for a week, and a new list gives a new one.
"""

import base64
import hashlib
import hmac
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from adapters.aws.account import Account, Answered
from adapters.aws.token import FrozenDisk
from migrate.errors import SourceBusy, SourceError
from migrate.source import Extent

if TYPE_CHECKING:
    from mypy_boto3_ebs.type_defs import ListSnapshotBlocksResponseTypeDef

PAGE = 10_000
"""Blocks in one answer, the most that there may be."""
PAGE_AGAIN = 1_000
"""Blocks that get new tokens at a time: 500 MiB are read in seconds."""
GIB = 1 << 30
SMALLEST_BLOCK, LARGEST_BLOCK = 4 << 10, 64 << 20
GONE = "ResourceNotFoundException"
TOKEN_REFUSED = "ValidationException"  # noqa: S105  the name of an error


class SnapshotDisk:
    """A frozen disk, a migrate.nbd_server.RemoteDisk. It is listed when it is first asked for anything but its name and size."""

    def __init__(self, account: Account, disk: FrozenDisk) -> None:
        self._account = account
        self._snapshot = disk.snapshot
        self.name = disk.name
        self.size = disk.size
        self._lock = threading.Lock()
        self._tokens: dict[int, str] = {}
        self._unit: int | None = None

    @property
    def unit(self) -> int:
        """Bytes of a block, as AWS says it: 512 KiB."""
        with self._lock:
            return self._listed()

    def extents(self) -> Iterator[Extent]:
        """Yield a run for each block that is there, and one for each gap."""
        unit = self.unit
        end = 0
        for index in self._tokens:
            if index * unit > end:
                yield Extent(end, index * unit - end, True)
            end = min((index + 1) * unit, self.size)
            yield Extent(index * unit, end - index * unit, False)
        if end < self.size:
            yield Extent(end, self.size - end, True)

    def read(self, offset: int, length: int) -> bytes:
        """Return whole blocks. What is not in the list is zeros. Raise SourceError where a block cannot be had, in six tries, as it was sent."""
        unit = self.unit
        blocks = range(offset // unit, -(-(offset + length) // unit))
        return b"".join(self._block(index) if index in self._tokens else bytes(unit) for index in blocks)[:length]

    def check_readable(self) -> None:
        """A block of it can be read now, key and permissions included. Raise Answered where it may not be."""
        page = self._page({"MaxResults": 100})
        for block in page["Blocks"][:1]:
            self._fetched(block["BlockIndex"], block["BlockToken"], page["BlockSize"])

    def _listed(self) -> int:
        if self._unit is not None:
            return self._unit
        tokens: dict[int, str] = {}
        last, following = -1, None
        while True:
            page = self._page({"MaxResults": PAGE} | ({"NextToken": following} if following else {}))
            unit = page["BlockSize"]
            self._check_sizes(unit, page["VolumeSize"])
            for block in page["Blocks"]:
                index = block["BlockIndex"]
                if not last < index < self.size / unit:
                    raise SourceError(
                        f"{self._snapshot}: block {index} was listed after {last} of a disk of {self.size} bytes"
                    )
                last = index
                tokens[index] = block["BlockToken"]
            following = page.get("NextToken")
            if not following:
                break
        self._tokens, self._unit = tokens, unit
        return unit

    def _check_sizes(self, unit: int, gib: int) -> None:
        if not SMALLEST_BLOCK <= unit <= LARGEST_BLOCK or unit & (unit - 1):
            raise SourceError(f"{self._snapshot}: blocks of {unit} bytes were told; a power of two was wanted")
        if gib * GIB != self.size:
            raise SourceError(
                f"{self._snapshot}: it is of {gib} GiB now, and was of {self.size // GIB} GiB when it was frozen"
            )

    def _page(self, words: dict[str, Any]) -> "ListSnapshotBlocksResponseTypeDef":
        what = f"list the blocks of {self._snapshot}"

        def asked() -> "ListSnapshotBlocksResponseTypeDef":
            self._account.pace.wait(self._account.run)
            return self._account.asked(
                "ebs", what, lambda: self._account.ebs.list_snapshot_blocks(SnapshotId=self._snapshot, **words)
            )

        return self._account.tries(what, asked)

    def _block(self, index: int) -> bytes:
        unit, token = self.unit, self._tokens[index]
        try:
            try:
                return self._fetched(index, token, unit)
            except Answered as error:
                if error.code != TOKEN_REFUSED:
                    raise
            return self._fetched(index, self._token_again(index, token), unit)
        except Answered as error:
            if error.code != GONE:
                raise
        raise SourceError(
            f"{self._snapshot} is gone: somebody has deleted it",
            hint="Take back what is left with `magalu-migrate clean`, and start anew.",
        )

    def _token_again(self, index: int, old: str) -> str:
        """Return a new token of the block: the old one has expired. Of many threads that find so in one part of the disk, one lists."""
        with self._lock:
            # From a fixed place, so that neighbours get theirs, too; from the block itself where that answer did not reach it.
            for start in (index // PAGE_AGAIN * PAGE_AGAIN, index):
                if self._tokens[index] == old:
                    page = self._page({"MaxResults": PAGE_AGAIN, "StartingBlockIndex": start})
                    new = {block["BlockIndex"]: block["BlockToken"] for block in page["Blocks"]}
                    self._tokens |= {key: token for key, token in new.items() if key in self._tokens}
            return self._tokens[index]

    def _fetched(self, index: int, token: str, unit: int) -> bytes:
        what = f"read block {index} of {self._snapshot}"

        def fetch() -> tuple[bytes, str]:
            answer = self._account.ebs.get_snapshot_block(SnapshotId=self._snapshot, BlockIndex=index, BlockToken=token)
            return answer["BlockData"].read(), answer["Checksum"]

        def fetched() -> bytes:
            self._account.pace.wait(self._account.run)
            content, checksum = self._account.asked("ebs", what, fetch)
            self._account.pace.answered()
            found = base64.b64encode(hashlib.sha256(content).digest()).decode()
            if len(content) != unit or not hmac.compare_digest(found, checksum):
                raise SourceBusy(
                    f"{what}: {len(content)} bytes came with SHA-256 {found}; {unit} bytes with {checksum[:64]} were sent",
                    hint="Something between AWS and this machine changes what it carries: look at its proxies.",
                )
            return content

        return self._account.tries(what, fetched)
