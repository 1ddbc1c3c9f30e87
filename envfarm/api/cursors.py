"""Cursors: places in lists, as clients are given them and give them back. Nothing in one is for a client to read."""

import base64
from typing import Annotated, TypeVar

from pydantic import Field, TypeAdapter
from pydantic_core import to_json

from envfarm.core.errors import UsageError

T = TypeVar("T")
D = TypeVar("D")
COUNT: TypeAdapter[int] = TypeAdapter(Annotated[int, Field(ge=0, lt=2**31)])
"""A place that is a number: how many came before, or the last one's own."""


def encode(place: object) -> str:
    """A place as a cursor."""
    return base64.urlsafe_b64encode(to_json(place)).decode().rstrip("=")


def decode(kind: TypeAdapter[T], cursor: str, first: D) -> T | D:
    """The place that a cursor stands for; `first` for an empty one. Raises `UsageError` for one that was not given out for such a list."""
    if not cursor:
        return first
    try:
        return kind.validate_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), strict=True)
    except ValueError as e:
        raise UsageError("the cursor is not one of this farm's for this list", hint="begin without one") from e
