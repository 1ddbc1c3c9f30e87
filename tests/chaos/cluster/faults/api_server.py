"""The API server, as the farm meets it: too busy, failing, silent, its watches broken off or too old. Done on the wire between them."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.http_wire import Asked, Harm
from tests.chaos.cluster.moments import Target


def _status(code: int, reason: str) -> dict[str, object]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": f"made up: {reason}"}


BUSY = Harm(429, (("Retry-After", "1"),), json.dumps(_status(429, "TooManyRequests")).encode())
FAILS = Harm(500, (), json.dumps(_status(500, "InternalError")).encode())
EXPIRED = Harm(200, (), json.dumps({"type": "ERROR", "object": _status(410, "Expired")}).encode() + b"\n")


def _answers(harm: Harm, *, every: int = 1) -> Callable[[Field, Target], AbstractContextManager[None]]:
    """Every so many'th request is met by this."""

    @contextmanager
    def done(field: Field, target: Target) -> Iterator[None]:
        count = 0

        def rule(asked: Asked) -> Harm | None:
            nonlocal count
            count += 1
            return harm if count % every == 0 and not asked.is_watch else None

        with field.api_wire.harming(rule):
            yield

    return done


@contextmanager
def _watches_cut(field: Field, target: Target) -> Iterator[None]:
    field.api_wire.cut_streams()
    yield


@contextmanager
def _watches_expired(field: Field, target: Target) -> Iterator[None]:
    with field.api_wire.harming(lambda asked: EXPIRED if asked.is_watch else None):
        field.api_wire.cut_streams()
        yield


FAULTS = (
    Fault("API server: 429", _answers(BUSY), "all", lasts_s=5.0),
    Fault("API server: 500", _answers(FAILS), "all", lasts_s=5.0),
    Fault("API server: every other answer lost", _answers(Harm(lost=True), every=2), "all", lasts_s=5.0),
    Fault("API server: slow", _answers(Harm(wait_s=3.0)), "all", lasts_s=6.0),
    Fault("API server: no answers", _answers(Harm(wait_s=25.0, lost=True)), "all", lasts_s=10.0),
    Fault("watches cut", _watches_cut, "all"),
    Fault("watches expired (410)", _watches_expired, "all", lasts_s=3.0),
)
