"""A disk read from the datastore over HTTPS, in ranges: the flat file that the snapshot's disk consists of.

The session's cookie goes in a header. A snapshot's disk of its own is written by nobody; where it is a difference to another one, or the
datastore keeps no flat files (vSAN, vVols), this way is closed and the lease's is taken.
Source: vSphere Web Services SDK programming guide, "Access to datastore files" (/folder, dcPath, dsName).
"""

import re
import threading
from collections.abc import Iterator
from functools import partial
from urllib.parse import quote, urlencode

import httpx
from pyVmomi import vim
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from adapters.vmware.session import Session
from adapters.vmware.token import Token, TokenDisk
from migrate.errors import SourceBusy, SourceError
from migrate.run import Note, Run
from migrate.source import Extent
from migrate.text import one_line

UNIT = 64 << 10
"""A round trip fetches that much at least: the tables of a file system are spread over the whole disk."""
PLACE = re.compile(r"\[([^\]]+)\] (.+)\.vmdk")
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def flat_path(token: Token, disk: TokenDisk) -> str | None:
    """Return the path and query of the disk's flat file, None where its name is not one that vSphere gives."""
    match = PLACE.fullmatch(disk.file)
    if match is None:
        return None
    query = urlencode({"dcPath": token.datacenter or "ha-datacenter", "dsName": match[1]}, quote_via=quote)
    return f"/folder/{quote(match[2])}-flat.vmdk?{query}"


class FlatDisk:
    """One disk of a snapshot as a RemoteDisk. `tracked` says whether vSphere keeps account of what was ever written."""

    unit = UNIT

    def __init__(self, run: Run, session: Session, client: httpx.Client, token: Token, disk: TokenDisk) -> None:
        path = flat_path(token, disk)
        if path is None:
            raise SourceError(f'disk "{one_line(disk.label)}": its file has no name that could be asked for')
        self._run = run
        self._session = session
        self._client = client
        self._url = f"https://{session.server.host}:{session.server.port}{path}"
        self._token = token
        self._disk = disk
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._disk.label

    @property
    def size(self) -> int:
        return self._disk.size

    def extents(self) -> Iterator[Extent]:
        """Yield what was ever written as data, and the rest as zeros, where changed block tracking tells; else one extent of data."""
        yield from extents(self._run, self._session, self._token, self._disk)

    def read(self, offset: int, length: int) -> bytes:
        """Return the range. What breaks is asked for again within one budget; an expired session is renewed. Raise SourceError, SourceBusy."""
        return self._read(offset, length, self._session.pace.attempts)

    def probe(self) -> None:
        """Raise SourceError where the first bytes cannot be had: a datastore without flat files, or without the privilege."""
        self._read(0, min(UNIT, self.size), 2)

    def _read(self, offset: int, length: int, attempts: int) -> bytes:
        pace = self._session.pace
        retrying = Retrying(
            retry=retry_if_result(lambda got: isinstance(got, SourceBusy)),
            stop=stop_after_attempt(attempts),
            wait=wait_exponential(multiplier=pace.first_pause, max=pace.longest_pause)
            + wait_random(0, pace.first_pause / 2),
            sleep=self._session.pause,
            before_sleep=self._tell,
            retry_error_callback=_last,
        )
        got: bytes | SourceError = retrying(self._range, offset, length)
        if isinstance(got, SourceError):
            raise got
        return got

    def _tell(self, state: RetryCallState) -> None:
        pause, got = state.next_action.sleep if state.next_action else 0, _last(state)
        if isinstance(got, SourceError):
            self._run.tell(Note(f"{got.message}; trying again in {pause:.0f} s"))

    def _range(self, offset: int, length: int) -> bytes | SourceError:
        """Ask once, or twice where the session had expired. Nothing is raised: an exception of httpx knows the cookie."""
        self._run.check()
        asked = f'disk "{one_line(self.name)}", {length} bytes at {offset}'
        for _ in range(2):
            logins = self._session.logins
            headers = {"Cookie": self._session.cookie, "Range": f"bytes={offset}-{offset + length - 1}"}
            try:
                answer = self._client.get(self._url, headers=headers)
            except httpx.RequestError as error:
                return SourceBusy(f"{asked}: the line broke ({one_line(str(error))[:200] or error.__class__.__name__})")
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                return self._checked(asked, answer, offset, length)
            self._session.renew(logins)
        return SourceError(f"{asked}: the server does not take our session")

    def _checked(self, asked: str, answer: httpx.Response, offset: int, length: int) -> bytes | SourceError:
        match answer.status_code:
            case 206:
                told = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
                found = tuple(int(number) for number in told.groups()) if told else ()
                if found == (offset, offset + length - 1, self.size) and len(answer.content) == length:
                    return answer.content
                return SourceError(f"{asked}: the server gave {found or 'no range'}, of a disk of {self.size} bytes")
            case 403:
                return SourceError(
                    f"{asked}: the privilege Datastore.FileManagement is missing (or Datastore.Browse)",
                    hint="Give it on the datastore, or read another way: --transport nfc.",
                )
            case 404:
                return SourceError(
                    f"{asked}: the datastore has no such flat file", hint="Read another way: --transport nfc."
                )
            case status if status == 429 or status >= 500:
                return SourceBusy(f"{asked}: the server answered {status}")
            case status:
                return SourceError(f"{asked}: the server answered {status}, and 206 was wanted")


def _last(state: RetryCallState) -> bytes | SourceError:
    assert state.outcome is not None  # noqa: S101 - tenacity calls its hooks after an attempt only
    got: bytes | SourceError = state.outcome.result()
    return got


def extents(run: Run, session: Session, token: Token, disk: TokenDisk) -> Iterator[Extent]:
    """Yield the whole disk in order: what was ever written is data. Asked in parts, as a host answers (QueryChangedDiskAreas with "*")."""
    if not token.tracked:
        text = "changed block tracking is off, so the disk is read whole; zeros are found while it is read"
        run.tell(Note(f'disk "{one_line(disk.label)}": {text}'))
        yield Extent(0, disk.size, False)
        return
    try:
        areas = tuple(_areas(session, token, disk))
    except SourceBusy:
        raise
    except SourceError as error:
        run.tell(Note(f'disk "{one_line(disk.label)}" is read whole: {error}', "warning"))
        yield Extent(0, disk.size, False)
        return
    position = 0
    for start, length in areas:
        if start > position:
            yield Extent(position, start - position, True)
        if length > 0:
            yield Extent(start, length, False)
        position = start + length
    if position < disk.size:
        yield Extent(position, disk.size - position, True)


def _areas(session: Session, token: Token, disk: TokenDisk) -> Iterator[tuple[int, int]]:
    """The areas in order, none over another; what a server says beyond that is not believed."""
    vm = vim.VirtualMachine(token.vm, session.stub)
    snapshot = vim.vm.Snapshot(token.snapshot, session.stub)
    position, known = 0, 0
    asked = f'ask what of disk "{one_line(disk.label)}" was written'
    while position < disk.size:
        answer = session.call(asked, partial(vm.QueryChangedDiskAreas, snapshot, disk.key, position, "*"))
        for area in answer.changedArea or ():
            end = min(area.start + area.length, disk.size)
            start = max(area.start, known)
            if area.start < position or end < start:
                raise SourceError(f"cannot {asked}: the areas are not in order")
            if end > start:
                yield start, end - start
                known = end
        if answer.length <= 0:
            raise SourceError(f"cannot {asked}: the answer covers nothing from byte {position} on")
        position = answer.startOffset + answer.length
