"""A client reads what a newer farm answers: fields that it does not know stand at every depth of it."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel, TypeAdapter

from envfarm.client import calls
from envfarm.client.calls import EventFeed
from envfarm.client.exchange import Call
from envfarm.core.ids import RunId
from envfarm.core.rollout import RolloutEvent

ADDED = "added_by_a_newer_farm"
TEXTS = ("a", "sha256:" + "a" * 64, "2026-01-01T00:00:00Z")


def answers() -> list[type[BaseModel]]:
    """The types that the client's calls read, each once."""
    told = [get_type_hints(function).get("return") for _, function in inspect.getmembers(calls, inspect.isfunction)]
    kinds = dict.fromkeys(get_args(one)[0] for one in told if get_origin(one) is Call)
    return [kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseModel)]


def examples(schema: Mapping[str, Any], known: Mapping[str, Any], added: dict[str, Any]) -> Iterator[Any]:
    """Values of a schema, so many that each branch of each union is in one. Every object of a type has what is added."""
    match schema:
        case {"$ref": str(name)}:
            yield from examples(known[name.rpartition("/")[2]], known, added)
        case {"anyOf": branches} | {"oneOf": branches}:
            for branch in branches:
                yield from examples(branch, known, added)
        case {"const": value}:
            yield value
        case {"enum": values}:
            yield from values
        case {"type": "object", "properties": fields}:
            columns = {name: list(examples(field, known, added)) for name, field in fields.items()}
            for row in range(max(map(len, columns.values()))):
                yield {name: column[row % len(column)] for name, column in columns.items()} | added
        case {"type": "object", "additionalProperties": Mapping() as inner}:
            yield from ({"key": value} for value in examples(inner, known, added))
        case {"type": "array", "items": inner}:
            yield list(examples(inner, known, added))
        case {"type": "string"}:
            pattern = schema.get("pattern", "^2026" if schema.get("format") == "date-time" else "")
            yield next(text for text in TEXTS if re.search(pattern, text))
        case {"type": "integer" | "number" | "boolean" | "null" as kind}:
            yield {"integer": 1, "number": 1.0, "boolean": True, "null": None}[kind]
        case _:
            yield {}


@pytest.mark.parametrize("kind", answers(), ids=lambda kind: kind.__name__)
def test_fields_that_a_newer_farm_adds_are_left_out_of_every_answer(kind: type[BaseModel]) -> None:
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    known = schema.get("$defs", {})
    plain = list(examples(schema, known, {}))
    newer = [json.dumps(value).encode() for value in examples(schema, known, {ADDED: {"whatever": [1]}})]
    assert all(ADDED.encode() in value for value in newer)
    assert [calls.reads(kind)(value) for value in newer] == [TypeAdapter(kind).validate_json(json.dumps(value)) for value in plain]


def test_the_calls_answers_are_found() -> None:
    assert {"RolloutView", "Leased", "PolicyState", "EpisodeView", "TrajectoryPage", "UsagePage", "Me"} <= {
        kind.__name__ for kind in answers()
    }


def test_an_event_of_a_newer_farm_is_read() -> None:
    event = RolloutEvent(number=1, at=1.0, kind="done", body={})
    feed = EventFeed(RunId("run"), 0)
    assert feed.line("data: " + json.dumps(event.model_dump() | {ADDED: 1})) is None
    assert feed.line("") == event
