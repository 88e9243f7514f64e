"""A login at a vCenter or ESXi: every question goes through it, is asked again where that may help, and fails in our words.

A session that has expired is logged in anew; objects of pyvmomi stay what they are, because all share one stub. Nothing of a secret is in a
failure: an error of the login is turned into words before it leaves the function that knew the password.
"""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from xml.parsers.expat import ExpatError

import defusedxml.ElementTree
from pyVmomi import SoapStubAdapter, vim, vmodl
from pyVmomi.VmomiSupport import GetServiceVersions, versionIdMap
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential, wait_random

from adapters.vmware import trust
from adapters.vmware.credentials import Credentials
from migrate.errors import MigrateError, SourceBusy, SourceError, Stopped
from migrate.run import Note, Run
from migrate.text import one_line

Answer = TypeVar("Answer")

LICENCE = "the licence of this ESXi forbids it (the free one only reads through its API)"
FOREIGN = (vmodl.MethodFault, OSError, http.client.HTTPException, ExpatError)
"""What pyvmomi raises: faults of the server, and what its own HTTP client meets. An answer that breaks off is no XML."""

LONGEST_VERSIONS = 1 << 20
"""Bytes; a vCenter's list has some 4 kB."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds. A vCenter's own client waits two minutes for an answer."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    timeout: float = 120.0
    poll: float = 0.5


@dataclass(frozen=True, slots=True)
class Server:
    """Where it is and how it is believed."""

    host: str
    port: int
    context: ssl.SSLContext

    @property
    def text(self) -> str:
        return self.host if self.port == 443 else f"{self.host}:{self.port}"


def host_and_port(text: str) -> tuple[str, int]:
    split = urlsplit(f"//{text}")
    return split.hostname or text, split.port or 443


class Session:
    """`agent` is told to the server as the User-Agent, by which the session can be found again. Close it when done."""

    def __init__(self, run: Run, server: Server, credentials: Credentials, agent: str, pace: Pace) -> None:
        self._run = run
        self._credentials = credentials
        self._agent = agent
        self._lock = threading.Lock()
        self._logins = 0
        self.server = server
        self.pace = pace
        self._stub = self._tried(f"reach {server.text}", self._reached, stoppable=True)
        try:
            self.content = self._tried(f"reach {server.text}", self._told, stoppable=True)
            self._log_in(0)
        except MigrateError:
            self._stub.DropConnections()
            raise

    def close(self) -> None:
        """Log out. A server that has gone, or has ended the session, is left alone."""
        with suppress(*FOREIGN):
            self.content.sessionManager.Logout()
        self._stub.DropConnections()

    @property
    def stub(self) -> Any:
        """What objects of pyvmomi are made with, from their ids."""
        return self._stub

    @property
    def is_vcenter(self) -> bool:
        return bool(self.content.about.apiType == "VirtualCenter")

    @property
    def cookie(self) -> str:
        """The header's value that authorises a download. It is as good as the password while the session lasts."""
        return str(self._stub.cookie).split(";", 1)[0]

    @property
    def logins(self) -> int:
        """How often it logged in, to tell `renew` which session had expired."""
        return self._logins

    def renew(self, expired: int) -> None:
        """Log in anew, unless another thread did since so many logins."""
        self._log_in(expired)

    def call(self, asked: str, function: Callable[[], Answer], *, again: bool = True, stoppable: bool = True) -> Answer:
        """Return the function's answer; `asked` completes "cannot …". Where the session has expired it logs in and asks once more.

        With `again` false what may have been done is not asked twice. What takes back what we made is not `stoppable`: Ctrl-C must not
        leave it there. Raise SourceBusy where another try may do better, else SourceError.
        """

        def logged_in() -> Answer:
            logins = self._logins
            try:
                return function()
            except vim.fault.NotAuthenticated:
                self.renew(logins)
                return function()

        return self._tried(asked, logged_in, again=again, stoppable=stoppable)

    def wait(self, asked: str, task: vim.Task, timeout: float, *, stoppable: bool = True) -> Any:
        """Return the result of a task once it has ended. Raise SourceError for a task that failed, SourceBusy for one that did not end."""
        deadline = time.monotonic() + timeout
        while True:
            info = self.call(asked, lambda: task.info, stoppable=stoppable)
            if info.state == vim.TaskInfo.State.success:
                return info.result
            if info.state == vim.TaskInfo.State.error:
                raise translated(asked, info.error or vmodl.MethodFault(msg="the task failed"))
            if time.monotonic() > deadline:
                raise SourceBusy(
                    f"cannot {asked}: vSphere has not ended it after {timeout:.0f} s", hint="See its tasks."
                )
            self.pause(self.pace.poll, stoppable=stoppable)

    def pause(self, seconds: float, *, stoppable: bool = True) -> None:
        if not stoppable:
            time.sleep(seconds)
            return
        self._run.stop.wait(seconds)
        self._run.check()

    def _reached(self) -> Any:
        """A stub that speaks the newest version which both sides know. pyvmomi's own way to it (SmartStubAdapter) has no time limit."""
        told = self._versions()
        for version in GetServiceVersions("vim25"):
            if versionIdMap[version] in told:
                return SoapStubAdapter(
                    host=self.server.host,
                    port=self.server.port,
                    version=version,
                    path="/sdk",
                    sslContext=self.server.context,
                    httpConnectionTimeout=self.pace.timeout,
                    customHeaders={"User-Agent": self._agent},
                )
        raise SourceError(
            f"{self.server.text} does not tell of any version of vSphere's API that we know",
            hint="Name the vCenter or the ESXi itself.",
        )

    def _versions(self) -> frozenset[str]:
        connection = http.client.HTTPSConnection(
            self.server.host, self.server.port, timeout=self.pace.timeout, context=self.server.context
        )
        try:
            connection.request("GET", "/sdk/vimServiceVersions.xml", headers={"User-Agent": self._agent})
            answer = connection.getresponse()
            text = answer.read(LONGEST_VERSIONS)
        finally:
            connection.close()
        if answer.status == http.client.NOT_FOUND:
            return frozenset()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"{answer.status} {answer.reason}")
        try:
            return frozenset(one.text for one in defusedxml.ElementTree.fromstring(text).iter("version") if one.text)
        except (SyntaxError, ValueError):  # no XML, or XML that is an attack
            return frozenset()

    def _told(self) -> vim.ServiceInstanceContent:
        return vim.ServiceInstance("ServiceInstance", self._stub).RetrieveContent()

    def _log_in(self, known: int) -> None:
        with self._lock:
            if self._logins != known:
                return
            failure = self._login_failure()
            if failure is not None:
                raise failure
            if self._logins:
                self._run.tell(Note(f"{self.server.text}: the session had expired; logged in again"))
            self._logins += 1

    def _login_failure(self) -> MigrateError | None:
        """Log in; return what went wrong, without the error that knew the password."""
        asked = f"log in at {self.server.text} as {one_line(self._credentials.user)}"
        try:
            self._tried(asked, self._login, stoppable=False)
        except MigrateError as error:
            return error.__class__(error.message, hint=error.hint) if not isinstance(error, Stopped) else Stopped()
        return None

    def _login(self) -> None:
        self._stub.cookie = ""
        self.content.sessionManager.Login(self._credentials.user, self._credentials.password.reveal())

    def _tried(
        self, asked: str, function: Callable[[], Answer], *, again: bool = True, stoppable: bool = True
    ) -> Answer:
        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            pause = state.next_action.sleep if state.next_action else 0
            self._run.tell(
                Note(f"{self.server.text}: {_words(error)}; trying again in {pause:.0f} s ({one_line(asked)})")
            )

        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self.pace.attempts if again else 1),
            wait=wait_exponential(multiplier=self.pace.first_pause, max=self.pace.longest_pause)
            + wait_random(0, self.pace.first_pause / 2),
            sleep=lambda seconds: self.pause(seconds, stoppable=stoppable),
            before_sleep=tell,
            reraise=True,
        )
        if stoppable:
            self._run.check()
        try:
            return retrying(function)
        except FOREIGN as error:
            raise translated(asked, error, self.server) from None


def translated(asked: str, error: BaseException, server: Server | None = None) -> SourceError:
    """Return what a fault of vSphere, or of the line to it, means to the user."""
    match error:
        case vim.fault.NoPermission():
            where = f" on {one_line(error.object._moId)}" if error.object is not None else ""
            return SourceError(
                f"cannot {asked}: the privilege {one_line(error.privilegeId or '?')} is missing{where}",
                hint="The README lists the least privileges of a role for this.",
            )
        case vim.fault.InvalidLogin():
            return SourceError(f"cannot {asked}: user or password is wrong", hint="Check what the variables hold.")
        case vim.fault.RestrictedVersion():
            return SourceError(f"cannot {asked}: {LICENCE}", hint="Give it a licence, or export the VM as an OVA.")
        case vmodl.fault.ManagedObjectNotFound():
            return SourceError(f"cannot {asked}: it is not there any more")
        case ssl.SSLCertVerificationError():
            return SourceError(f"cannot {asked}: {one_line(error.verify_message)}", hint=_trust_hint(server))
        case _ if _may_pass(error):
            return SourceBusy(f"cannot {asked}: {_words(error)}", hint="Run the same command again.")
        case _:
            return SourceError(f"cannot {asked}: {_words(error)}")


def _trust_hint(server: Server | None) -> str:
    if server is None:
        return "Give the root certificate with --ca."
    try:
        found = trust.sha256(trust.certificate(server.host, server.port))
    except SourceError:
        return "Give the root certificate with --ca."
    return (
        f"Give the root certificate with --ca FILE (a vCenter offers it at https://{server.text}/certs/download.zip), or, if this is "
        f"its certificate: --thumbprint {found}"
    )


def _may_pass(error: BaseException) -> bool:
    """Whether another try may do better. Source: vSphere Web Services API reference, the faults' own pages."""
    match error:
        case ssl.SSLCertVerificationError():
            return False
        case socket.gaierror():
            return error.errno == socket.EAI_AGAIN
        case (
            vim.fault.TaskInProgress() | vim.fault.Timedout() | vim.fault.HostConnectFault() | vim.fault.ResourceInUse()
        ):
            return True
        case vmodl.fault.HostCommunication():  # of which HostNotConnected and HostNotReachable are kinds
            return True
        case vmodl.MethodFault():
            return False
        case http.client.HTTPException() | OSError() | ExpatError():
            return True
        case _:
            return False


def _words(error: BaseException | None) -> str:
    """What went wrong, in the server's words where it has any, without anything that we sent."""
    if isinstance(error, vmodl.MethodFault):
        name = error.__class__.__name__.rpartition(".")[2]
        return f"{one_line(error.msg)[:300]} ({name})" if error.msg else name
    if isinstance(error, ExpatError):
        return "the answer breaks off, or is not vSphere's"
    return one_line(str(error))[:300] or error.__class__.__name__
