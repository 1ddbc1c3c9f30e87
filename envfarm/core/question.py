"""What a question-and-answer site yields: one question with its answers, as raw as they came, self-contained and append-only.

Made by the Stack Exchange sources, read by `task_builders.questions`. Bodies are HTML, as the site keeps them.
"""

from datetime import datetime

from envfarm.core import digest
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.source import SourceKind


class Credit(Frozen):
    """Who wrote a text, where it stands, and on which terms it may be passed on."""

    url: str
    """Where a person finds it."""
    author: str = ""
    """As the site shows the name; empty where the source does not tell it."""
    author_url: str = ""
    licence: str
    """An SPDX expression. `CC-BY-SA-2.5+` where the source gives neither a licence nor a date: all versions allow the later ones."""
    created_at: datetime | None = None
    editors: tuple[str, ...] = ()
    """Who else worked on the text, where the source tells it."""


class Answer(Frozen):
    """An answer as it stands on the site."""

    id: int
    body: str
    score: int | None = None
    accepted: bool = False
    credit: Credit


class Question(Frozen):
    """A question with an accepted answer, and the other answers that the source has."""

    kind: SourceKind = SourceKind.STACKEXCHANGE
    id: int
    name: str
    """The site: `stackoverflow.com`."""
    title: str
    body: str
    tags: tuple[str, ...] = ()
    score: int | None = None
    credit: Credit
    answers: tuple[Answer, ...]
    """The accepted one first, the others by score."""

    @property
    def url(self) -> str:
        """Where a person finds the question."""
        return self.credit.url

    @property
    def digest(self) -> Digest:
        """The record's identity: its address and its content."""
        return digest.of_noun(self)
