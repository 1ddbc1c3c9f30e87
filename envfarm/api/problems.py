"""Errors as problem+json (RFC 9457): what is wrong, whose fault it is, whether the same request may succeed later, and what to do.

Which status a failure has stands in one table. Nothing of the farm's inside (paths, addresses, traces) is told.
"""

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from envfarm.core.errors import Cause, Conflict, Denied, EnvfarmError, NotFound, Overloaded, StoreError, TaskError, Unsupported, UsageError
from envfarm.core.frozen import Frozen

MEDIA_TYPE = "application/problem+json"
STORE_RETRY_S = 2.0
log = logging.getLogger(__name__)

STATUS: dict[type[EnvfarmError], HTTPStatus] = {
    UsageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    TaskError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Denied: HTTPStatus.FORBIDDEN,
    Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    Unsupported: HTTPStatus.NOT_IMPLEMENTED,
    StoreError: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Problem(Frozen):
    """The body of every answer that is an error."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    cause: str
    """Whose fault: `usage`, `store`, `farm`, …"""
    retryable: bool
    """Whether the same request may succeed later."""
    hint: str = ""
    retry_after_s: float | None = None
    errors: list[dict[str, Any]] = []
    """For a request that could not be read: where, and what."""


class Stopping(Exception):  # noqa: N818 - a state of the world
    """The service stops: what the call waited for is to be asked of the next one."""


def answer(problem: Problem) -> JSONResponse:
    """The response for a problem."""
    headers = {}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(problem.retry_after_s))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = problem.model_dump(mode="json", exclude_defaults=True) | {"type": problem.type, "retryable": problem.retryable}
    return JSONResponse(body, status_code=problem.status, headers=headers, media_type=MEDIA_TYPE)


def plain(status: HTTPStatus, detail: str, *, cause: Cause = Cause.USAGE, retryable: bool = False, **more: Any) -> JSONResponse:
    """A problem without a failure of the farm behind it."""
    problem = {"title": status.phrase, "status": status.value, "detail": detail, "cause": cause.value, "retryable": retryable}
    return answer(Problem.model_validate(problem | more))


def of_error(error: EnvfarmError) -> JSONResponse:
    """The problem that a failure of the farm is to a trainer."""
    status = next((s for kind, s in STATUS.items() if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR)
    detail, hint = str(error), error.hint
    retry_after_s = error.retry_after_s if isinstance(error, Overloaded) else None
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, Unsupported):
        log.error("a request failed: %s", error, exc_info=error)
        detail, hint, retry_after_s = f"the farm's {error.policy.cause.value} failed", "", STORE_RETRY_S
    cause, retry = error.policy.cause, error.policy.retry
    return plain(status, _sayable(detail), cause=cause, retryable=retry, hint=_sayable(hint), retry_after_s=retry_after_s)


def unauthorized(why: str, *, hint: str) -> JSONResponse:
    """No token, or one that is not known."""
    return plain(HTTPStatus.UNAUTHORIZED, why, hint=hint)


def install(app: FastAPI) -> None:
    """Have every error of an app told as a problem."""

    async def farm(_: Request, error: Exception) -> JSONResponse:
        return of_error(error) if isinstance(error, EnvfarmError) else await unknown(_, error)

    async def unreadable(_: Request, error: Exception) -> JSONResponse:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        errors = [{"where": _sayable(".".join(map(str, e["loc"]))), "what": _sayable(e["msg"])} for e in found[:20]]
        first = f"{errors[0]['where']}: {errors[0]['what']}" if errors else "the request cannot be read"
        return plain(HTTPStatus.UNPROCESSABLE_ENTITY, first, errors=errors)

    async def http(request: Request, error: Exception) -> JSONResponse:
        status = HTTPStatus(error.status_code if isinstance(error, HTTPException) else 500)
        told, hint = str(getattr(error, "detail", "")) or status.phrase, ""
        if status == HTTPStatus.NOT_FOUND:  # of what is there but its thing, `NotFound` tells
            told, hint = (
                f"nothing is at {request.url.path}",
                "GET /docs shows every address; a client is given the farm's own, without `/v1`",
            )
        answered = plain(status, _sayable(told), hint=hint)
        answered.headers.update(getattr(error, "headers", None) or {})
        return answered

    async def stopping(_: Request, __: Exception) -> JSONResponse:
        told = "the service stops: ask the next one"
        return plain(HTTPStatus.SERVICE_UNAVAILABLE, told, cause=Cause.FARM, retryable=True, retry_after_s=STORE_RETRY_S)

    async def unknown(_: Request, error: Exception) -> JSONResponse:
        log.error("a request failed", exc_info=error)
        return plain(HTTPStatus.INTERNAL_SERVER_ERROR, "a fault of the farm's own", cause=Cause.FARM, retryable=True)

    app.add_exception_handler(EnvfarmError, farm)
    app.add_exception_handler(RequestValidationError, unreadable)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Stopping, stopping)
    app.add_exception_handler(Exception, unknown)


def _sayable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()[:2000]
