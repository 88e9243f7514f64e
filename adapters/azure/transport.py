"""How requests are sent to Azure, and the one place that sends them again: each has one budget, and each pause is told.

A transport and no policy, because the SDKs of Resource Manager and of blobs take the same one, and their own policies pause where a stop is not seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    IncompleteReadError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_result, stop_after_attempt
from tenacity.wait import wait_base, wait_exponential, wait_random

from adapters.azure.failures import BUSY, cleaned, is_untrusted
from migrate.run import Note, Run

RANGE = "x-ms-range"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a request is tried again: times, and pauses in seconds. `connect` and `read` are how long Azure may take to answer."""

    attempts: int = 6
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_retry_after: float = 120.0
    connect: float = 20.0
    read: float = 90.0


UNHURRIED = Pace()


class Transport(RequestsTransport):  # type: ignore[misc]  # azure-core loads it lazily, so its type is Any
    """Sends a request again while Azure is busy or the line breaks. A stop of the run ends it, also in a pause.

    An answer that holds less, or more, than the range that was asked for counts as one that broke off. `roots` is a file in PEM.
    """

    def __init__(self, run: Run, pace: Pace, roots: Path) -> None:
        super().__init__(connection_verify=str(roots), connection_timeout=pace.connect, read_timeout=pace.read)
        self._run = run
        self._pace = pace

    def send(self, request: Any, **kwargs: Any) -> Any:
        retrying = Retrying(
            retry=retry_if_result(_is_busy) | retry_if_exception(_may_do_better),
            stop=stop_after_attempt(self._pace.attempts),
            wait=_Pause(self._pace),
            sleep=self._sleep,
            before_sleep=self._tell,
            retry_error_callback=_last,
        )

        def once() -> Any:
            self._run.check()
            answer = super(Transport, self).send(request, **kwargs)
            _check_range(request, answer)
            return answer

        return retrying(once)

    def _sleep(self, seconds: float) -> None:
        self._run.stop.wait(seconds)
        self._run.check()

    def _tell(self, state: RetryCallState) -> None:
        pause = state.next_action.sleep if state.next_action else 0
        self._run.tell(Note(f"Azure {_found(state)}; trying again in {pause:.0f} s"))


class _Pause(wait_base):
    """Azure's Retry-After where it says one, else ever longer pauses."""

    def __init__(self, pace: Pace) -> None:
        self._longest = pace.longest_retry_after
        self._growing: Callable[[RetryCallState], float] = wait_exponential(
            multiplier=pace.first_pause, max=pace.longest_pause
        ) + wait_random(0, pace.first_pause / 2)

    def __call__(self, retry_state: RetryCallState) -> float:
        outcome = retry_state.outcome
        if outcome is not None and not outcome.failed:
            said = outcome.result().headers.get("Retry-After", "")
            if said.isascii() and said.isdecimal() and len(said) < 9:
                return min(float(said), self._longest)
        return self._growing(retry_state)


def _check_range(request: Any, answer: Any) -> None:
    wanted = request.headers.get(RANGE)
    if wanted is None or answer.status_code not in (200, 206):
        return
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    length, came = int(last) - int(first) + 1, len(answer.read())
    if answer.status_code == 200 or came != length:
        raise IncompleteReadError(f"{length} bytes at {first} were asked for, and {came} came")


def _last(state: RetryCallState) -> Any:
    assert state.outcome is not None  # noqa: S101 - tenacity calls its hooks after an attempt only
    return state.outcome.result()


def _found(state: RetryCallState) -> str:
    if state.outcome is None or state.outcome.failed:
        error = state.outcome.exception() if state.outcome else None
        return f"broke off ({cleaned(str(error))[:160]})"
    return f"answered {state.outcome.result().status_code}"


def _is_busy(answer: Any) -> bool:
    return answer.status_code in BUSY


def _may_do_better(error: BaseException) -> bool:
    if not isinstance(error, AzureError) or is_untrusted(error):
        return False
    if isinstance(error, ServiceRequestError | ServiceResponseError | IncompleteReadError):
        return True
    return isinstance(error, HttpResponseError) and error.response is None
