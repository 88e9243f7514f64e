"""What Azure's libraries raise, as errors of ours. They quote URLs with signatures, so their words are cleaned before they are shown."""

import json
import re
from collections.abc import Callable
from typing import TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
    ServiceRequestError,
    ServiceResponseError,
)

from migrate.errors import MigrateError, SourceBusy, SourceError, Stopped
from migrate.text import one_line

BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be others in a while."""

Result = TypeVar("Result")

_ACTIONS = (
    re.compile(r"does not have permission to perform action\(s\) '([\w./*]+)' on the linked scope\(s\) '([^']*)'"),
    re.compile(r"perform action '([\w./*]+)' over scope '([^']*)'"),
)
"""Azure's words for a right that is missing: of a second thing that a request names (LinkedAuthorizationFailed), and of the thing itself."""

_QUERY = re.compile(r"\?[^\s'\"<>)]*")
_SECRET = re.compile(
    r"(?i)\b(sig|client_secret|client_assertion|access_token|password)(=|%3D|[\"']?: ?[\"']?)[^&\s'\",}]+"
)
_BEARER = re.compile(r"(?i)bearer\s+[\w.~+/=-]+")


class NotThere(SourceError):
    """Azure has no such thing."""


class MissingRight(SourceError):
    """We may not do that. `action` is what a role must hold ("Microsoft.Compute/snapshots/write"), `scope` where it must be assigned."""

    def __init__(self, asked: str, action: str, scope: str) -> None:
        super().__init__(
            f"{asked}: the right {action} is missing on {scope}",
            hint="Have a role assigned that holds it; the README has one with all that is needed.",
        )
        self.action = action
        self.scope = scope


class Ended(SourceError):
    """Access to a disk is over: its signature has expired, or was revoked."""


def asked(what: str, call: Callable[[], Result]) -> Result:
    """Return what the call returns. Raise SourceError or SourceBusy for what Azure's libraries raise.

    Their errors are not chained to ours, nor is a stop that came up through them: frames and messages of theirs hold signatures and keys.
    """
    failure: MigrateError
    try:
        return call()
    except Stopped:
        failure = Stopped()
    except AzureError as error:
        failure = translated(what, error)
    raise failure


def translated(what: str, error: AzureError) -> SourceError:
    """Return the error of ours that says what was asked and what Azure answered."""
    if isinstance(error, HttpResponseError) and error.response is not None:
        return _answered(what, error, int(error.response.status_code or 0))
    if is_untrusted(error):
        return SourceError(
            f"{what}: the server's certificate is not signed by a root that this machine trusts",
            hint="Something between here and Azure (a proxy) may have one of its own: give its root with --ca FILE.",
        )
    words = cleaned(str(error.message))
    if isinstance(error, ClientAuthenticationError):
        return SourceError(
            f"{what}: signing in to Azure failed: {words}",
            hint="Run `az login`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET of a service principal.",
        )
    if isinstance(error, ServiceRequestError | ServiceResponseError | HttpResponseError):
        return SourceBusy(
            f"{what}: Azure cannot be reached, or broke off: {words}", hint="Check the network, then try again."
        )
    return SourceError(f"{what}: {words}")


def is_untrusted(error: AzureError) -> bool:
    """Whether the server showed a certificate that we do not trust: another try will not do better."""
    return isinstance(error, ServiceRequestError) and "CERTIFICATE_VERIFY_FAILED" in str(error)


def cleaned(text: str) -> str:
    """Return foreign words in one line, cut, without queries of URLs, keys and tokens."""
    hidden = _BEARER.sub("Bearer ***", _SECRET.sub(r"\1=***", _QUERY.sub("?…", text)))
    return one_line(" ".join(hidden.split()))[:600]


def _answered(what: str, error: HttpResponseError, status: int) -> SourceError:
    code, text = _said(error)
    for pattern in _ACTIONS if status == 403 else ():
        if found := pattern.search(text):
            return MissingRight(what, found[1], one_line(found[2]))
    words = cleaned(f"{status} {code}: {text}" if code else f"{status} {text}")
    if isinstance(error, ResourceNotFoundError) or status == 404:
        return NotThere(
            f"{what}: there is no such thing in Azure ({words})", hint="Check the address: `magalu-migrate list`."
        )
    if status in BUSY:
        return SourceBusy(f"{what}: Azure answered {words}", hint="Wait a little, then run the same command again.")
    if isinstance(error, ClientAuthenticationError) or status == 401:
        return SourceError(
            f"{what}: signing in to Azure failed: {words}",
            hint="Run `az login`, or check AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET.",
        )
    return SourceError(f"{what}: Azure answered {words}")


def _said(error: HttpResponseError) -> tuple[str, str]:
    """The code and the message of an answer, whatever its shape. Source: OData error format, which Resource Manager uses."""
    told = error.error
    code, text = getattr(told, "code", None), getattr(told, "message", None)
    if not text:
        try:
            body = json.loads(error.response.text()) if error.response is not None else {}
            inner = body.get("error", body)
            code, text = inner.get("code"), inner.get("message")
        except (ValueError, AttributeError, AzureError):
            code = getattr(error, "error_code", None)
    return str(code or ""), str(text or error.message)
