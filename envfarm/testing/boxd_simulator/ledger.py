"""Records the requests to each simulated box, to verify a farm's guarantees. No decision of the simulator depends on it."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class BoxPage:
    """The record of one box, from its configuration to its end."""

    address: str
    began: float
    """In seconds since 1970, like `ended`."""
    ended: float | None = None
    requests: int = 0
    epochs: list[int] = field(default_factory=list)
    """The distinct epochs that were admitted, in the order of their first request."""
    asked: dict[str, int] = field(default_factory=dict)
    """Exec id → how often it was requested."""
    ran: dict[str, int] = field(default_factory=dict)
    """Exec id → how often it was started."""
    refused: dict[str, int] = field(default_factory=dict)
    """Error code → how often it was returned."""

    def as_json(self) -> dict[str, Any]:
        """As JSON, for another process."""
        return asdict(self)


def broken_promises(pages: Iterable[BoxPage]) -> Iterator[str]:
    """Violations of what a farm must never do to a box, as text; empty if there are none."""
    for page in pages:
        for exec_id, times in page.ran.items():
            if times > 1:
                yield f"{page.address}: {exec_id} ran {times} times"
        if page.epochs != sorted(page.epochs):
            yield f"{page.address}: let epochs in in the order {page.epochs}"
