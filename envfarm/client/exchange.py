"""One call without any I/O: what to send, how long to wait before the next try, and what the answer means.

Driven by the synchronous and the asynchronous client alike: they do what it yields. Every call of this client may be sent again: it
carries a key, a step id or a lease that the server knows it by, or says what shall be the case. (A token issued twice is two.)
"""

import json
import logging
import random
import ssl
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

from envfarm.core.errors import Cause, EnvfarmError, FailurePolicy
from envfarm.core.frozen import Frozen
from envfarm.core.retry import backoff_s, retry_after_s

T = TypeVar("T")
RETRIED = frozenset({408, 425, 429, 502, 503, 504})
OK = range(200, 300)
JITTER = random.SystemRandom()
log = logging.getLogger(__name__)


class RetryPolicy(Frozen):
    """How often a call is tried, and how long a farm is waited for."""

    tries: int = 8
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    """Also the most that a Retry-After is obeyed."""
    timeout_s: float = 30.0
    """For an answer, beyond the time that the call itself asks the server to wait."""


class ServerProblem(EnvfarmError):  # noqa: N818 - what it is called in the API
    """The farm refused, or could not be reached. What follows is what its problem+json says."""

    policy = FailurePolicy(Cause.USAGE)

    def __init__(self, message: str, *, status: int = 0, problem: Mapping[str, Any] | None = None) -> None:
        told = dict(problem or {})
        super().__init__(message, hint=str(told.get("hint", "")))
        self.status = status
        """0 where there was no answer."""
        self.cause = str(told.get("cause", ""))
        self.retryable = bool(told.get("retryable", status == 0))
        self.problem = told


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A call to be made."""

    method: str
    path: str
    read: Callable[[bytes], T]
    """The typed answer. Raises `ValueError`."""
    query: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    wait_s: float = 0.0
    """How long the server was asked to wait."""

    @property
    def target(self) -> str:
        """Path and query."""
        query = urlencode({k: v for k, v in self.query.items() if v not in {None, ""}})
        return quote(self.path, safe="/@") + (f"?{query}" if query else "")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Send:
    """To be sent; answered with an `Answer`, or with the `OSError` that it failed with."""

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Sleep:
    """To be waited for; answered with None."""

    seconds: float


Exchange = Generator[Send | Sleep, Answer | OSError | None, T]


def exchange(call: Call[T], retry: RetryPolicy) -> Exchange[T]:
    """Send until there is an answer that means something. Raises `ServerProblem`."""
    problem = ServerProblem("no try was made")
    for attempt in range(1, retry.tries + 1):
        answer = yield Send(call)
        if isinstance(answer, Answer) and answer.status in OK:
            try:
                return call.read(answer.body)
            except ValueError as e:
                raise ServerProblem(f"{call.method} {call.path}: the answer cannot be read: {e}", status=answer.status) from e
        told_s = None
        if isinstance(answer, Answer):
            problem = problem_of(call, answer)
            told_s = retry_after_s(answer.headers.get("retry-after"), answer.headers.get("date"))
            if answer.status not in RETRIED and not (answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR and problem.retryable):
                raise problem
        else:
            problem = ServerProblem(f"{call.method} {call.path}: {answer or 'no answer'}")
            if isinstance(answer, ssl.SSLCertVerificationError) or getattr(answer, "reason", "") == "WRONG_VERSION_NUMBER":
                raise problem
        if attempt < retry.tries:
            seconds = wait_s(retry, attempt, told_s)
            log.warning("%s; trying again in %.1f s (%d of %d)", problem, seconds, attempt + 1, retry.tries)
            yield Sleep(seconds)
    raise problem


def wait_s(retry: RetryPolicy, failures: int, told_s: float | None = None) -> float:
    """How long to wait after so many failed tries; what the server told is obeyed up to a bound."""
    return backoff_s(failures, first_s=retry.first_wait_s, longest_s=retry.longest_wait_s, told_s=told_s, jitter=JITTER)


def problem_of(call: Call[Any], answer: Answer) -> ServerProblem:
    """The error that an answer is."""
    try:
        told = json.loads(answer.body)
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    detail = told.get("detail") or answer.body[:200].decode(errors="replace")
    return ServerProblem(f"{call.method} {call.path}: {answer.status}: {detail}", status=answer.status, problem=told)
