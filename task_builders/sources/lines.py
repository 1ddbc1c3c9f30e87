"""Records as JSON lines. Called by whatever keeps source records and candidates on disk.

Patches may hold bytes that are no UTF-8 (lone surrogates, by surrogateescape): they are written as JSON escapes, so a line is plain
ASCII and reads back to the same text. Must not touch files itself.
"""

import json
from typing import TypeVar

from envfarm.core.frozen import Frozen

Noun = TypeVar("Noun", bound=Frozen)


def to_line(noun: Frozen) -> str:
    """One line of JSON, without the line break."""
    return json.dumps(noun.model_dump(mode="json"), ensure_ascii=True, separators=(",", ":"))


def from_line(noun: type[Noun], line: str) -> Noun:
    """What `to_line` wrote.

    Raises:
        ValueError: the line is no JSON, or not such a noun (`pydantic.ValidationError` is a `ValueError`).
    """
    return noun.model_validate(json.loads(line))
