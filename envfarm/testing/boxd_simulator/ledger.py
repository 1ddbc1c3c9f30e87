"""What each simulated box was asked: the book that a farm's promises are checked against. Written by `box`; nothing reads it to decide."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class BoxPage:
    """One box, from its configuration to its end."""

    address: str
    began: float
    """Seconds since 1970, as what follows."""
    ended: float | None = None
    requests: int = 0
    epochs: list[int] = field(default_factory=list)
    """Each that was let in, when it was the first of its number."""
    asked: dict[str, int] = field(default_factory=dict)
    """Exec id → how often it was asked for."""
    ran: dict[str, int] = field(default_factory=dict)
    """Exec id → how often it was started."""
    refused: dict[str, int] = field(default_factory=dict)
    """Error code → how often it was said."""

    def as_json(self) -> dict[str, Any]:
        """For another process."""
        return asdict(self)


def broken_promises(pages: Iterable[BoxPage]) -> Iterator[str]:
    """What no farm may ever do to a box, in words: nothing, where all is well."""
    for page in pages:
        for exec_id, times in page.ran.items():
            if times > 1:
                yield f"{page.address}: {exec_id} ran {times} times"
        if page.epochs != sorted(page.epochs):
            yield f"{page.address}: let epochs in in the order {page.epochs}"
