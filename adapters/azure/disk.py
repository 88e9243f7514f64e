"""The bytes of a snapshot: a page blob that is a fixed VHD. Its page ranges are what was ever written.

azure-storage-blob asks for the whole list of page ranges with each download of a part of a page blob (12.31.1, _download.py), so parts are asked for
by azure-core's pipeline, with the same retries; the list, with its pages, is azure-storage-blob's.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from azure.core import PipelineClient
from azure.core.exceptions import HttpResponseError
from azure.core.rest import HttpRequest, HttpResponse
from azure.storage.blob import BlobClient

from adapters.azure.access import Access
from adapters.azure.cloud import Cloud
from adapters.azure.token import Kept
from adapters.azure.transport import RANGE
from adapters.azure.vhd import SECTOR, size_of
from migrate.errors import SourceError
from migrate.nbd_server import served_disk
from migrate.run import Run
from migrate.secret import Secret
from migrate.source import Extent

UNIT = 256 << 10
"""Azure answers some 500 requests a second for one disk's download, however small: "Scalability targets for standard storage accounts"."""
RANGES_A_PAGE = 5000


class PageBlob:
    """One frozen disk as a RemoteDisk. `begin` finds out whether it is what it must be."""

    unit = UNIT

    def __init__(self, cloud: Cloud, access: Access, kept: Kept) -> None:
        self._cloud = cloud
        self._access = access
        self._kept = kept
        self._begun = False
        self._lock = threading.Lock()
        self._transport = cloud.transport()
        self._client: PipelineClient[HttpRequest, HttpResponse] = PipelineClient(
            "", policies=[], transport=self._transport
        )

    @property
    def name(self) -> str:
        return self._kept.disk

    @property
    def size(self) -> int:
        return self._kept.size

    def begin(self) -> None:
        """Check the blob's kind, length and footer. Raise SourceError where it is not the disk that was frozen."""
        with self._lock:
            if self._begun:
                return
            length = self._access.used(f"look at disk {self.name}", self._length)
            footer = self._part(length - SECTOR, SECTOR) if length > SECTOR else b""
            if (size := size_of(self.name, length, footer)) != self.size:
                raise SourceError(
                    f"{self.name}: the download holds {size} bytes, and the snapshot was of {self.size}",
                    hint="Start the migration anew: `magalu-migrate clean`, then the same command.",
                )
            self._begun = True

    def extents(self) -> Iterator[Extent]:
        self.begin()
        end = 0
        for start, stop in self._access.used(f"list the page ranges of disk {self.name}", self._ranges):
            if not end <= start < stop:
                raise SourceError(f"{self.name}: Azure told of page ranges that are not in order ({start} after {end})")
            start, stop = min(start, self.size), min(stop, self.size)  # the footer is behind the disk
            if start > end:
                yield Extent(end, start - end, zero=True)
            if stop > start:
                yield Extent(start, stop - start, zero=False)
            end = stop
        if end < self.size:
            yield Extent(end, self.size - end, zero=True)

    def read(self, offset: int, length: int) -> bytes:
        return self._part(offset, length)

    def close(self) -> None:
        self._client.close()

    def _part(self, offset: int, length: int) -> bytes:
        def fetched(url: Secret) -> bytes:
            headers = {RANGE: f"bytes={offset}-{offset + length - 1}", "Accept-Encoding": "identity"}
            answer = self._client.send_request(HttpRequest("GET", url.reveal(), headers=headers))
            if answer.status_code != 206:
                raise HttpResponseError(response=answer)
            return answer.read()

        return self._access.used(f"read {length} bytes at {offset} of disk {self.name}", fetched)

    def _length(self, url: Secret) -> int:
        told = self._blob(url).get_blob_properties()
        if str(getattr(told.blob_type, "value", told.blob_type)) != "PageBlob":
            raise SourceError(f"{self.name}: the download is not a page blob")
        return int(told.size or 0)

    def _ranges(self, url: Secret) -> list[tuple[int, int]]:
        """(start, end) of each run of pages that hold data, neighbours joined. The list is whole or not at all: a signature may end between pages."""
        found: list[tuple[int, int]] = []
        for one in self._blob(url).list_page_ranges(results_per_page=RANGES_A_PAGE):
            self._cloud.run.check()
            if one.cleared or one.start is None or one.end is None:
                continue
            if found and found[-1][1] == one.start:
                found[-1] = (found[-1][0], one.end + 1)
            else:
                found.append((one.start, one.end + 1))
        return found

    def _blob(self, url: Secret) -> BlobClient:
        # Not to be closed: that would close the transport, which the next one wants, too. Retries are the transport's.
        return BlobClient.from_blob_url(url.reveal(), transport=self._transport, retry_total=0)


@dataclass(frozen=True, slots=True)
class FrozenDisk:
    """A BlockSource. Nothing is asked for, and no access granted, before the disk is used."""

    run: Run
    remote: PageBlob

    @property
    def name(self) -> str:
        return self.remote.name

    @property
    def size(self) -> int:
        return self.remote.size

    def extents(self) -> Iterator[Extent]:
        return self.remote.extents()

    def nbd(self) -> AbstractContextManager[str]:
        return served_disk(self.run, self.remote)
