"""What a build tells those who watch it, as frozen values. The pipeline sends them; the command shows them. Nothing depends on them."""

from collections.abc import Callable

from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from task_builders.journal import ItemFailed, ItemRejected, ItemValid


class SourceRead(Frozen):
    """All records of one source are known."""

    source: str
    records: int
    rejected: int


class SourceFailed(Frozen):
    """A source could not be read; the others go on."""

    source: str
    error: str
    hint: str = ""


class ItemStarted(Frozen):
    """A candidate is taken up."""

    item: Digest
    title: str


class ItemAt(Frozen):
    """A candidate has come to a stage."""

    item: Digest
    stage: str


class ItemDone(Frozen):
    """A record is finished, or was kept from it."""

    item: Digest
    result: ItemValid | ItemRejected | ItemFailed


class Waiting(Frozen):
    """A source waits for something outside, in a line for a person."""

    words: str


Event = SourceRead | SourceFailed | ItemStarted | ItemAt | ItemDone | Waiting
Watch = Callable[[Event], None]


def nobody(_event: Event) -> None:
    """For builds that nobody watches."""
