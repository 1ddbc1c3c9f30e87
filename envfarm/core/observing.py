"""What rooms tell of themselves: things that take time, things that happen, and how high things stand. For whoever runs a farm.

Rooms are handed an `Observer` and know no more; `envfarm.telemetry` makes metrics, traces and log lines of it, and wiring joins them.
Telling decides nothing and fails nothing: an observer raises no error and waits for nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

Fact = str | int | float
SpanName = Literal["rollout", "episode", "create", "think", "exec", "grade", "request", "gateway call"]
"""`rollout`: a request is taken; `episode`: one attempt; `create`: making a box; `think`: the policy; `exec`: an action; `grade`: from the
change to the verdict; `request`: of the API; `gateway call`: an agent's call of the model."""
CountName = Literal["asked", "admission", "retry", "gone on", "lease lost", "statement", "usage"]
"""`asked`: requests for episodes, by answer; `admission`: what was decided of waiting episodes; `gone on`: attempts behind another one's,
by how; `statement`: of SQL; `usage`: what boxes used, by tenant and resource."""
LevelName = Literal["boxes", "queue", "groups", "capacity", "hosts", "engine calls"]
"""`boxes`: alive, of this process; `queue`: episodes by state, and `groups` that no trainer has acknowledged, of the whole database;
`capacity`: episodes that this host may play at once; `hosts`: 1, of this host; `engine calls`: under way, of this process's gateway, by
engine."""


class Span(Protocol):
    """Something that takes time, while it lasts."""

    @property
    def traceparent(self) -> str:
        """What names it to another process (W3C trace context); empty where nobody traces."""
        ...

    def note(self, **facts: Fact) -> None:
        """Add what only became known meanwhile: how it ended."""
        ...


class Observer(Protocol):
    """Told what happens. Facts may be anything; whoever keeps them picks the ones that have few values."""

    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> AbstractContextManager[Span]:
        """Something begins, and ends with the block, by an error too. Part of the span around it, or of `within`, a `traceparent`."""
        ...

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """Something happened."""
        ...

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """How high something stands now."""
        ...

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """It stands that much higher now, or lower."""
        ...


class UntoldSpan:
    """The span of whoever is told nothing."""

    traceparent = ""

    def note(self, **facts: Fact) -> None:
        """Nobody listens."""


class Unobserved:
    """What rooms are handed where nobody wants to know."""

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:  # noqa: ARG002 - the contract's
        """Nothing is kept."""
        yield UntoldSpan()

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """Nothing is kept."""

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """Nothing is kept."""

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """Nothing is kept."""


UNOBSERVED = Unobserved()
