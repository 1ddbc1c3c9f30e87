"""Errors as OpenAI's interfaces tell them. `retryable` is the farm's own word beside theirs. Pure."""

from envfarm.gateway.dialects.dialect import Json
from envfarm.gateway.problems import Kind, Problem

WORDS: dict[Kind, tuple[str, str | None]] = {
    "invalid": ("invalid_request_error", None),
    "unauthorized": ("invalid_request_error", "invalid_api_key"),
    "unknown": ("invalid_request_error", "not_found"),
    "too_large": ("invalid_request_error", "request_too_large"),
    "context": ("invalid_request_error", "context_length_exceeded"),
    "budget": ("insufficient_quota", "insufficient_quota"),
    "busy": ("rate_limit_error", "rate_limit_exceeded"),
    "unavailable": ("server_error", "server_error"),
}


def error(problem: Problem) -> Json:
    """`{"error": {…}}`."""
    kind, code = WORDS[problem.kind]
    return {"error": {"message": problem.message, "type": kind, "param": None, "code": code, "retryable": problem.retryable}}
