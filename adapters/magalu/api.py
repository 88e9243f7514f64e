"""The HTTP side of Magalu Cloud's API: authorisation, time limits, retries, and what an error answer says.

The one place of this adapter that retries HTTP (object storage has boto3's own). Nothing is raised while a request is tried: an
exchange ends in a value, Answer or Lost, and only `refusal()` makes an error of it. So no exception of httpx, which carries the
request's URL, ever stands behind one of ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeVar

import httpx
from pydantic import BaseModel, JsonValue, ValidationError
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_random

from adapters.magalu.credentials import Credentials
from adapters.magalu.regions import Region, Service
from migrate.errors import TargetBusy, TargetError
from migrate.run import Note, Run
from migrate.secret import Secret
from migrate.text import shown

Method = Literal["GET", "POST", "DELETE"]

MAX_BODY = 8 << 20
"""Bytes of an answer that are read; a list of 50 images has some 20 kB."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how long, in seconds. Source of attempts and pauses: Magalu's own SDK for Go (3 tries, 1 s to 30 s), doubled."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_retry_after: float = 300.0
    timeout: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The server answered. `request_id` is what support asks for."""

    status: int
    body: bytes = field(repr=False)
    request_id: str | None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer came. `sent` says whether the server may have got the request all the same."""

    words: str
    sent: bool


Reply = Answer | Lost

Body = TypeVar("Body", bound=BaseModel)


class Api:
    """Requests to one region's API. Close it when done."""

    def __init__(self, run: Run, region: Region, credentials: Credentials, pace: Pace = Pace()) -> None:
        self._run = run
        self._region = region
        self._credentials = credentials
        self._pace = pace
        self._http = httpx.Client(
            timeout=httpx.Timeout(pace.timeout, connect=min(pace.timeout, 15.0)),
            follow_redirects=False,
            trust_env=not region.is_loopback,
            headers={"User-Agent": "magalu-migrate", "Accept": "application/json"},
        )

    def close(self) -> None:
        self._http.close()

    def repeated(
        self,
        method: Literal["GET", "DELETE"],
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        service: Service = Service.COMPUTE,
        version: str | None = None,
    ) -> Reply:
        """Return the reply to a request that may be sent twice; whatever may be better next time is tried again.

        `version` is that of the answer's form, where a path has several (x-api-version).
        """
        return self._tried(lambda: self._exchange(method, path, params, None, service, version), _may_do_better)

    def posted(self, path: str, body: Mapping[str, JsonValue | Secret]) -> Reply:
        """Return the reply to a request that must not arrive twice: it is tried again only where it surely did not arrive."""
        return self._tried(lambda: self._exchange("POST", path, None, body), _surely_not_taken)

    def deleted(self, asked: str, path: str, params: Mapping[str, str | int] | None = None) -> None:
        """What is at a path is gone or going. A second call finds nothing and succeeds. Raise TargetError where it is refused."""
        reply = self.repeated("DELETE", path, params)
        if not (isinstance(reply, Answer) and (200 <= reply.status < 300 or reply.status == 404)):
            raise self.refusal(asked, reply)

    def refusal(self, asked: str, reply: Reply, *, hide: Sequence[Secret] = ()) -> TargetError:
        """Return the error that tells this reply: what was asked, the server's message and slug, and the request's id."""
        if isinstance(reply, Lost):
            return TargetBusy(f"{asked}: {reply.words}.", hint="Check the network, then run the same command again.")
        # Blotted before it is cut: half a secret is none that could be found.
        words = _without((*self._credentials.secrets, *hide), _message(reply.body))
        said = shown(" ".join(words.split()))[:500] or "no reason given"
        kind = TargetBusy if _may_do_better(reply) else TargetError
        return kind(
            f"{asked}: Magalu Cloud answered {reply.status}: {said}",
            hint=_HINTS.get(reply.status),
            status=reply.status,
            request_id=reply.request_id,
        )

    def parsed(self, asked: str, reply: Reply, wanted: int, model: type[Body]) -> Body:
        """Return the body of an answer with the wanted status. Raise TargetError for any other reply, and for a body that is not so."""
        if not isinstance(reply, Answer) or reply.status != wanted:
            raise self.refusal(asked, reply)
        body = _validated(model, reply.body)
        if body is None:
            raise TargetError(
                f"{asked}: Magalu Cloud's answer is not what its API describes ({model.__name__}).",
                hint="Something between here and Magalu Cloud may have answered in its place (a proxy).",
                status=reply.status,
                request_id=reply.request_id,
            )
        return body

    def _tried(self, exchange: Callable[[], Reply], again: Callable[[Reply], bool]) -> Reply:
        retrying = Retrying(
            retry=retry_if_result(again),
            stop=stop_after_attempt(self._pace.attempts),
            wait=_Pause(self._pace),
            sleep=self._sleep,
            before_sleep=self._tell,
            retry_error_callback=_last_reply,
        )
        reply: Reply = retrying(exchange)
        return reply

    def _sleep(self, seconds: float) -> None:
        self._run.stop.wait(seconds)
        self._run.check()

    def _tell(self, state: RetryCallState) -> None:
        reply = _last_reply(state)
        found = f"answered {reply.status}" if isinstance(reply, Answer) else f"did not answer ({reply.words})"
        pause = state.next_action.sleep if state.next_action else 0
        self._run.tell(Note(f"Magalu Cloud {found}; trying again in {pause:.0f} s"))

    def _exchange(
        self,
        method: Method,
        path: str,
        params: Mapping[str, str | int] | None,
        body: Mapping[str, JsonValue | Secret] | None,
        service: Service = Service.COMPUTE,
        version: str | None = None,
    ) -> Reply:
        self._run.check()
        try:
            with self._http.stream(
                method,
                self._region.url(service) + path,
                params=params,
                json=None if body is None else _revealed(body),
                headers=self._credentials.headers | ({"x-api-version": version} if version else {}),
            ) as response:
                return Answer(
                    response.status_code,
                    _bounded(response),
                    _request_id(response.headers),
                    _retry_after(response.headers),
                )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Lost(f"cannot reach {_host(self._region)} ({_words(error)})", sent=False)
        except httpx.RequestError as error:
            return Lost(f"{_host(self._region)} broke off ({_words(error)})", sent=True)


_HINTS = {
    401: "The API key or token is wrong or has expired: make a key at https://id.magalu.com/api-keys, or run `mgc auth login` again.",
    403: "The API key lacks a scope (virtual-machine.read and virtual-machine.write are needed, for --launch network.read and "
    "gdb:ssh-pkey-r, too), or belongs to another tenant.",
    429: "Too many requests: wait a little, then run the same command again.",
}


class _Pause(wait_base):
    """The server's Retry-After where it says one, else ever longer pauses."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        growing = wait_exponential(multiplier=pace.first_pause, max=pace.longest_pause)
        self._backoff = growing + wait_random(0, pace.first_pause / 2)

    def __call__(self, retry_state: RetryCallState) -> float:
        reply = _last_reply(retry_state)
        if isinstance(reply, Answer) and reply.retry_after is not None:
            return min(reply.retry_after, self._pace.longest_retry_after)
        return self._backoff(retry_state)


def _last_reply(state: RetryCallState) -> Reply:
    assert state.outcome is not None  # noqa: S101 - tenacity calls its hooks after an attempt only
    reply: Reply = state.outcome.result()
    return reply


def _may_do_better(reply: Reply) -> bool:
    return isinstance(reply, Lost) or reply.status == 429 or reply.status >= 500


def _surely_not_taken(reply: Reply) -> bool:
    return not reply.sent if isinstance(reply, Lost) else reply.status == 429


def _revealed(body: Mapping[str, JsonValue | Secret]) -> dict[str, Any]:
    return {key: value.reveal() if isinstance(value, Secret) else value for key, value in body.items()}


def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > MAX_BODY:
            return b""
    return bytes(body)


def _request_id(headers: httpx.Headers) -> str | None:
    """Source: the mgc CLI prints both on every failure (core/http/http.go)."""
    ids = [shown(headers[name])[:100] for name in ("X-Request-Id", "X-Mgc-Trace-Id") if headers.get(name)]
    return ", trace ".join(ids) or None


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds, from a number or a date. Source: RFC 9110, 10.2.3."""
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def _host(region: Region) -> str:
    return httpx.URL(region.api_url).host


def _words(error: httpx.RequestError) -> str:
    return shown(str(error))[:200] or error.__class__.__name__


class _Finding(BaseModel):
    loc: list[str | int] = []
    msg: str = ""


class _ErrorBody(BaseModel):
    """Both shapes: Magalu's own, and FastAPI's for a request that does not validate."""

    message: str | None = None
    slug: str | None = None
    detail: list[_Finding] | str | None = None


def _message(body: bytes) -> str:
    """The words of an error's body, whatever its shape."""
    error = _validated(_ErrorBody, body)
    if error is None or not (error.message or error.slug or error.detail):
        return re.sub(r"<[^>]*>", " ", body.decode("utf-8", "replace"))
    if isinstance(error.detail, list):
        return "; ".join(f"{'.'.join(map(str, finding.loc))}: {finding.msg}" for finding in error.detail)
    message = f'"{error.message}"' if error.message else error.detail
    return " ".join(filter(None, [message, f"({error.slug})" if error.slug else None]))


def _validated(model: type[Body], body: bytes) -> Body | None:
    try:
        return model.model_validate_json(body)
    except ValidationError:  # it quotes the body, which may quote what we sent
        return None


def _without(secrets: Sequence[Secret], text: str) -> str:
    """The text with every secret in it blotted out: a server may send back what it was sent."""
    for secret in secrets:
        text = text.replace(secret.reveal(), "***")
    return re.sub(r"(?i)(X-Amz-Signature|X-Amz-Credential)(=|%3D)[^&\s\"']+", r"\1=***", text)
