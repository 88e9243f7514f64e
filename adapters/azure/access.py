"""Access to a snapshot's bytes: granted by Azure as a URL with a signature, renewed before it ends, revoked at the end."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, HttpResponseError
from azure.mgmt.compute import models

from adapters.azure.cloud import Cloud
from adapters.azure.failures import Ended, translated
from adapters.azure.snapshots import GRANT, Snapshots
from adapters.azure.token import Kept
from migrate.errors import MigrateError, SourceError, Stopped
from migrate.ledger import Ledger
from migrate.run import Note
from migrate.secret import Secret

GRANTED_S = 3600
"""For how long access is granted at a time: a job that dies leaves it open no longer."""
RENEWED_BEFORE_S = 300.0
TIMES = 3
"""How often a request is made with new access before it is given up."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Grant:
    number: int
    url: Secret
    until: float


class Access:
    """Access to one snapshot: granted when it is first used. Safe from several threads."""

    def __init__(self, cloud: Cloud, ledger: Ledger, kept: Kept) -> None:
        self._cloud = cloud
        self._ledger = ledger
        self._kept = kept
        self._grant: _Grant | None = None
        self._lock = threading.Lock()

    def used(self, what: str, call: Callable[[Secret], Result]) -> Result:
        """Return what the call returns that is given the URL. Access that ended meanwhile is granted again, which is told."""
        for _ in range(TIMES):
            grant = self._current()
            try:
                return _asked(what, partial(call, grant.url))
            except Ended as ended:
                said = ended
                self._renewed(grant.number, "has ended")
        raise said

    def close(self) -> None:
        """Nobody has access any more, whatever stopped us."""
        with self._lock:
            if self._grant is None:
                return
            with self._cloud.unstoppable() as cloud:
                Snapshots(cloud, self._ledger).revoke(self._kept.group, self._kept.name)
            self._ledger.gone(GRANT, **self._names())
            self._grant = None

    def _current(self) -> _Grant:
        with self._lock:
            grant = self._grant
            if grant is None:
                return self._granted()
        if time.monotonic() > grant.until - RENEWED_BEFORE_S:
            return self._renewed(grant.number, "ends soon")
        return grant

    def _renewed(self, number: int, why: str) -> _Grant:
        """Access that is newer than this number. The old one is revoked first: while it lasts, Azure may give the same again."""
        with self._lock:
            if self._grant is not None and self._grant.number > number:
                return self._grant  # another thread was quicker
            self._cloud.run.tell(Note(f"access to disk {self._kept.disk} {why}; it is granted again"))
            Snapshots(self._cloud, self._ledger).revoke(self._kept.group, self._kept.name)
            return self._granted()

    def _granted(self) -> _Grant:
        self._ledger.will_make(GRANT, **self._names(), job=self._kept.job)
        number = self._grant.number + 1 if self._grant is not None else 1
        # Whatever happens from here on, close() revokes: what an unheard answer granted would live on otherwise.
        self._grant = _Grant(number, Secret(""), 0.0)
        began = time.monotonic()
        wanted = models.GrantAccessData(access="Read", duration_in_seconds=GRANTED_S, file_format="VHD")
        url = self._url(wanted)
        if urlsplit(url.reveal()).scheme != "https":
            raise SourceError(f"access to disk {self._kept.disk} was granted without an https URL", hint="Try again.")
        self._grant = _Grant(number, url, began + GRANTED_S)
        return self._grant

    def _url(self, wanted: models.GrantAccessData) -> Secret:
        answer = self._cloud.finished(
            f"grant access to disk {self._kept.disk}",
            lambda: self._cloud.compute.snapshots.begin_grant_access(self._kept.group, self._kept.name, wanted),
        )
        return Secret(answer.access_sas or "")

    def _names(self) -> dict[str, str]:
        return {"subscription": self._cloud.subscription, "group": self._kept.group, "name": self._kept.name}


def _asked(what: str, call: Callable[[], Result]) -> Result:
    """As failures.asked, but a signature that does not count any more is Ended."""
    failure: MigrateError
    try:
        return call()
    except Stopped:
        failure = Stopped()
    except AzureError as error:
        failure = translated(what, error)
        if isinstance(error, HttpResponseError) and error.status_code in (401, 403, 404):
            failure = Ended(failure.message, hint="A proxy, or a rule of the network's, may forbid the download.")
    raise failure
