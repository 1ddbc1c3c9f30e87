"""Texts and outcomes as every database and every journal takes them, wherever their text comes from: an endpoint's error, a file's name.

Called by whoever makes an outcome, and by the stores for texts that are not an outcome's. It changes no number.
"""

from typing import Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from envfarm.core.outcome import Outcome

OUTCOME: TypeAdapter[Outcome] = TypeAdapter(Outcome)


def told(text: str) -> str:
    """Without NUL and halves of surrogate pairs, which are written out."""
    return encodable(text).replace("\0", "\\0")


def encodable(text: str) -> str:
    """Without halves of surrogate pairs, which are written out: in Python, names of files that are no UTF-8 hold them."""
    return text.encode(errors="backslashreplace").decode()


def storable(outcome: Outcome) -> Outcome:
    """The same outcome, in texts that can be written as JSON. A hostile name of a file must cost no verdict."""
    try:
        OUTCOME.dump_json(outcome)
    except PydanticSerializationError:
        return OUTCOME.validate_python(_encodable(OUTCOME.dump_python(outcome)))
    return outcome


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return encodable(value)
        case list() | tuple():
            return tuple(_encodable(one) for one in value)
        case dict():
            return {_encodable(key): _encodable(one) for key, one in value.items()}
        case _:
            return value
