"""Disks read through an export lease (NFC), the way that works wherever a VM can be exported: each disk streams once, from its beginning.

The stream, a streamOptimized VMDK, is kept in a file while the disks are open. A thread of its own keeps the lease alive. Where the line breaks, the
stream is taken up again if the server honours Range, and begins anew if not; a lease that has died is made anew and its disk begun anew, because
nobody promises that two leases stream the same bytes.
The lease has a session of its own whose User-Agent bears our mark: an unfinished one is found by that, and ended with its session.
Source: vSphere Web Services API reference, HttpNfcLease, ExportSnapshot.
"""

import json
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
from oslo_utils.imageutils import format_inspector
from pyVmomi import vim

from adapters.vmware import trust
from adapters.vmware.session import FOREIGN, Session
from adapters.vmware.token import Token, TokenDisk
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.run import Limits, Note, Run
from migrate.text import one_line, size

KIND = "vmware/lease"
READY_S = 600.0
LOOK = Limits(address_space=2 << 30, cpu_seconds=600)
LOOK_S = 3600.0
LONGEST_TICK_S = 30.0


def agent(snapshot_name: str) -> str:
    """What the session of a lease calls itself."""
    return snapshot_name.replace(" ", "/", 1)


class _LeaseLost(SourceBusy):
    """The lease gives nothing more."""


@dataclass(slots=True)
class Exports:
    """Fetches disks of one token into a folder, each once. `login` opens the session of a lease."""

    run: Run
    token: Token
    ledger: Ledger
    folder: Path
    login: Callable[[str], Session]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def file(self, disk: TokenDisk) -> Path:
        """Return the disk's VMDK, fetched and checked. Raise SourceError where it is not the disk, SourceBusy where the budget is used up."""
        path = self.folder / f"{disk.key}.vmdk"
        with self._lock:
            if not path.exists():
                part = path.with_suffix(".part")
                self._fetch(disk, part)
                _check(self.run, part, disk)
                part.replace(path)
        return path

    def _fetch(self, disk: TokenDisk, path: Path) -> None:
        text = f'disk "{one_line(disk.label)}" is fetched whole through an export lease, {size(disk.size)} at most'
        self.run.tell(Note(text))
        names = {"host": self.token.host, "vm": self.token.vm, "name": self.token.snapshot_name}
        self.ledger.will_make(KIND, **names)
        lost = 0
        while True:
            path.unlink(missing_ok=True)
            session = self.login(agent(self.token.snapshot_name))
            try:
                with _leased(self.run, session, self.token) as lease:
                    _download(self.run, lease, disk, path)
                break
            except _LeaseLost as error:
                lost += 1
                if lost >= session.pace.attempts:
                    raise SourceBusy(f"{error.message}, {lost} times", hint="Run the same command again.") from error
                self.run.tell(Note(f"{error.message}; a new one is made and the disk begun anew", "warning"))
                session.pause(session.pace.first_pause)
            finally:
                session.close()
        self.ledger.gone(KIND, **names)


@dataclass(slots=True)
class _Lease:
    session: Session
    lease: Any
    urls: Sequence[Any]
    expected: int = 0
    done: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def url(self, disk: TokenDisk) -> tuple[str, str | None]:
        """The address of a disk's stream, and the thumbprint of who gives it where that is said."""
        streams = [one for one in self.urls if one.disk is not False]
        found = [one for one in streams if one.key.rpartition("/")[2] == disk.device]
        if not found and len(streams) == 1:
            found = streams
        if len(found) != 1:
            told = ", ".join(one_line(one.key) for one in streams)
            raise SourceError(
                f'the lease does not tell which of its files is disk "{one_line(disk.label)}" ({disk.device}): {told}'
            )
        split = urlsplit(found[0].url)
        if split.scheme != "https":
            raise SourceError(f"the lease names an address that is not HTTPS ({one_line(split.scheme)})")
        server = self.session.server
        place = split.netloc
        if split.hostname == "*":  # the host does not know by which name it was called
            place = f"{server.host}:{split.port or server.port}"
        return urlunsplit(split._replace(netloc=place)), found[0].sslThumbprint or None

    @property
    def is_ready(self) -> bool:
        try:
            return bool(self.lease.state == vim.HttpNfcLease.State.ready)
        except FOREIGN:
            return False

    def keep(self, every: float) -> None:
        """Tell of progress until the lease is given back. A failure is seen by who reads."""
        while not self.ended.wait(every):
            percent = min(99, self.done * 100 // self.expected) if self.expected else 1
            try:
                self.lease.HttpNfcLeaseProgress(percent)
            except FOREIGN:
                continue


@contextmanager
def _leased(run: Run, session: Session, token: Token) -> Iterator[_Lease]:
    snapshot = vim.vm.Snapshot(token.snapshot, session.stub)
    lease = session.call("export the snapshot", snapshot.ExportSnapshot)
    keeper: threading.Thread | None = None
    opened = _Lease(session, lease, ())
    whole = False
    try:
        info = _ready(session, lease)
        opened.urls = info.deviceUrl or ()
        every = min(LONGEST_TICK_S, max(0.2, info.leaseTimeout / 3))
        keeper = threading.Thread(target=opened.keep, args=(every,), name="lease", daemon=True)
        keeper.start()
        yield opened
        whole = True
    finally:
        opened.ended.set()
        if keeper is not None:
            keeper.join()
        with suppress(*FOREIGN):  # it ends with its session, which ends now
            if whole:
                lease.HttpNfcLeaseComplete()
            else:
                lease.HttpNfcLeaseAbort()


def _ready(session: Session, lease: Any) -> Any:
    waited = 0.0
    while True:
        state = session.call("read the lease", lambda: lease.state)
        if state == vim.HttpNfcLease.State.ready:
            return session.call("read the lease", lambda: lease.info)
        if state == vim.HttpNfcLease.State.error:
            fault = session.call("read the lease", lambda: lease.error)
            raise SourceError(
                f"vSphere does not export the snapshot: {one_line(getattr(fault, 'msg', '') or str(type(fault)))}"
            )
        if waited > READY_S:
            raise _LeaseLost(f"the lease was not ready after {READY_S:.0f} s")
        session.pause(session.pace.poll)
        waited += session.pace.poll


def _download(run: Run, lease: _Lease, disk: TokenDisk, path: Path) -> None:
    url, thumbprint = lease.url(disk)
    lease.expected = next((one.fileSize or 0 for one in lease.urls if one.url == url), 0)
    _check_room(path, lease.expected)
    session, split = lease.session, urlsplit(url)
    host, port = split.hostname or "", split.port or 443
    context = session.server.context
    if (host, port) != (session.server.host, session.server.port) and thumbprint:
        context = trust.context(host, port, thumbprint=thumbprint)  # the vCenter vouches for its host
    timeout = httpx.Timeout(session.pace.timeout, connect=trust.CONNECT_S)
    failures = 0
    with httpx.Client(verify=context, timeout=timeout, trust_env=False) as client, path.open("wb") as file:
        while True:
            before = file.tell()
            problem = _stream(run, client, url, lease, file)
            if problem is None:
                return
            if not lease.is_ready:
                raise _LeaseLost("the export lease has ended")
            failures = 1 if file.tell() > before else failures + 1
            if failures >= session.pace.attempts:
                raise SourceBusy(f'disk "{one_line(disk.label)}": {problem}', hint="Run the same command again.")
            pause = min(session.pace.longest_pause, session.pace.first_pause * 2 ** (failures - 1))
            run.tell(
                Note(
                    f'disk "{one_line(disk.label)}": {problem} after {size(file.tell())}; trying again in {pause:.0f} s'
                )
            )
            session.pause(pause)


def _stream(run: Run, client: httpx.Client, url: str, lease: _Lease, file: Any) -> str | None:
    """Append what is still missing to the file; return what went wrong, None once it is whole. The address is as good as a key: it is in no error."""
    position = file.tell()
    headers = {"Range": f"bytes={position}-"} if position else {}
    try:
        with client.stream("GET", url, headers=headers | {"Accept-Encoding": "identity"}) as answer:
            if answer.status_code == 200 and position:  # the server does not honour Range
                file.seek(0)
                file.truncate()
            elif answer.status_code == 206:
                if not answer.headers.get("Content-Range", "").startswith(f"bytes {position}-"):
                    return "the server gave another range than was asked for"
            elif answer.status_code != 200:
                return f"the server answered {answer.status_code}"
            for block in answer.iter_raw():  # as it comes: what a fixed size still gathers is lost with the line
                run.check()
                file.write(block)
                lease.done = file.tell()
    except httpx.RequestError as error:
        return f"the line broke ({one_line(str(error))[:200] or error.__class__.__name__})"
    return None


def _check_room(path: Path, expected: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if expected > free:
        raise SourceError(
            f"the export has {size(expected)}, and {path.parent} has room for {size(free)}",
            hint="Make room, or read without a copy: --transport datastore.",
        )


def _check(run: Run, path: Path, disk: TokenDisk) -> None:
    """The file is a VMDK of this disk's size that names no other file, and qemu finds no damage in it."""
    name = f'disk "{one_line(disk.label)}"'
    try:
        found = format_inspector.detect_file_format(str(path))
        if found is None or str(found) != "vmdk":
            raise SourceError(f"{name}: what was exported is {found}, and a VMDK was wanted")
        found.safety_check()
    except (format_inspector.ImageFormatError, format_inspector.SafetyCheckFailed) as error:
        raise SourceError(f"{name}: what was exported is no sound VMDK ({one_line(str(error))[:200]})") from error
    words: list[str | Path] = ["qemu-img", "info", "--output=json", "-f", "vmdk", path]
    told = json.loads(run.tool(words, limits=LOOK, timeout=LOOK_S).text)
    if told.get("virtual-size") != disk.size:
        raise SourceError(f"{name}: {told.get('virtual-size')} bytes were exported, the disk has {disk.size}")
    run.tool(["qemu-img", "check", "-f", "vmdk", path], limits=LOOK, timeout=LOOK_S)
