"""What an agent is told when a call comes to nothing, in no dialect yet.

A `Refused` is an answer to an agent, not an episode's failure: those are the classes of `envfarm.core.errors`, and `of` tells what an agent
hears of them.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from envfarm.core.errors import ContextExhausted, EnvfarmError

log = logging.getLogger(__name__)
Kind = Literal["invalid", "unauthorized", "unknown", "too_large", "context", "budget", "busy", "unavailable"]
STATUS: dict[Kind, int] = {
    "invalid": 400,
    "unauthorized": 401,
    "unknown": 404,
    "too_large": 413,
    "context": 400,
    "budget": 403,
    "busy": 429,
    "unavailable": 503,
}
RETRYABLE = frozenset[Kind]({"busy", "unavailable"})


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a call comes to nothing."""

    kind: Kind
    message: str
    retry_after_s: int = 1
    """Told where it is retryable."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.kind]

    @property
    def retryable(self) -> bool:
        """Whether the same call may be answered later."""
        return self.kind in RETRYABLE


class Refused(Exception):  # noqa: N818 - an answer, as in `Problem`
    """The agent's call is not made."""

    def __init__(self, kind: Kind, message: str, *, used_up: Literal["", "tokens", "turns"] = "") -> None:
        """`used_up` is the budget that ends the episode."""
        super().__init__(message)
        self.problem = Problem(kind, message)
        self.used_up = used_up


@contextmanager
def of_the_request(what: str) -> Iterator[None]:
    """Work on what a program sent, before anybody else is asked. Whatever fails in it is that request's fault, and becomes `Refused`.

    What is classified passes, and so does what the machine lacks.
    """
    try:
        yield
    except (Refused, EnvfarmError, MemoryError, OSError):
        raise
    except RecursionError as e:
        raise Refused("invalid", "the request is nested too deeply") from e
    except Exception as e:
        place = traceback.extract_tb(e.__traceback__)[-1]
        # Nobody foresaw it, and it may be a bug. In a line: a program can bring it about again and again.
        log.warning("%s: %s in %s:%s", what, type(e).__name__, place.filename, place.lineno)
        raise Refused("invalid", f"{what}: {type(e).__name__}: {str(e)[:300]}") from e


def of(failure: Exception) -> Problem:
    """What an agent hears of a failure. Of the engine's and the farm's own it learns no more than that there was one."""
    match failure:
        case Refused():
            return failure.problem
        case ContextExhausted():
            return Problem("context", str(failure))
        case EnvfarmError() if failure.policy.retry:
            return Problem("unavailable", f"the model cannot be asked at the moment ({failure.policy.cause})")
        case _:
            return Problem("unavailable", "the model cannot be asked at the moment")
