"""Whether held-out cases are enough: whether a program that passes them all must do what is asked for, and cannot know it by heart.
Pure; called by trials, and by the gates of terminal tasks.

Three ways to pass without doing it are closed. Few cases could be known by heart, so several with distinct outputs are needed. A program
that copies words by their places passes all renamings, also of each record twice. A table of the visible records, each with its part of
the visible output, passes whatever is made up of these: a choice, an order or a repetition of them. So one case at the least has records
that are not visible, in another structure, and words in its output that the visible one has not.
"""

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from envfarm.core.plan import Relation
from envfarm.grading import outputs
from task_builders.questions.variants import BY_PLACES

MIN_CASES = 3
"""Held-out cases with distinct outputs, without which a task could be answered by heart."""
BETWEEN_CELLS = re.compile(r"[;:|,\s]+")
ROW_NUMBER = re.compile(r"^[ \t]*\d+[ \t]+(?=\S)", re.MULTILINE)
"""Or another number at the beginning of a line."""


class Example(NamedTuple):
    """What comes of some inputs."""

    inputs: Mapping[str, str]
    """Names of files, and their texts."""
    output: str


def are_enough(visible: Example, others: Mapping[str, Example], relation: Relation) -> bool:
    """Whether cases are enough beside the visible one.

    Args:
        visible: what the agent is shown.
        others: the held-out cases, by the names of their variants.
        relation: how outputs are compared: what it does not tell apart counts once.
    """
    shown = _form(visible, relation)
    telling = {name: form for name, each in others.items() if (form := _form(each, relation)) != shown}
    return len(set(telling.values())) >= MIN_CASES and any(_has_news(visible, others[name]) for name in telling.keys() - BY_PLACES)


def _has_news(visible: Example, other: Example) -> bool:
    """Whether an example has records that are not visible, and words in its output that the visible output has not."""
    news = any(_least(text, like=visible.inputs.get(name, "")) for name, text in other.inputs.items())
    return news and not _words(other) <= _words(visible)


def _words(example: Example) -> set[str]:
    """Of an output, without numbers of rows: these stand in no input, and tell of a record no more than where it came to stand."""
    rows = {number.strip() for number in ROW_NUMBER.findall(example.output)}
    given = set(re.findall(r"\w+", " ".join(example.inputs.values())))
    return set(re.findall(r"\w+", ROW_NUMBER.sub("", example.output))) | rows & given


def _form(example: Example, relation: Relation) -> Hashable:
    return outputs.normal(example.output.encode(), relation)


def _least(text: str, *, like: str) -> set[str]:
    """The least parts of a text that the other one has not: the values of JSON with their names, lines, or of a text of one line, cells."""
    value, shown = _json(text), _json(like)
    if value is not None and shown is not None:
        return set(_leaves(value)) - set(_leaves(shown))
    if len(like.strip().splitlines()) == 1:
        return set(BETWEEN_CELLS.split(text)) - set(BETWEEN_CELLS.split(like)) - {""}
    return {line.strip() for line in text.splitlines()} - {line.strip() for line in like.splitlines()}


def _json(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None


def _leaves(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each, name)
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _leaves(each, key)
    else:
        yield f"{name}={value!r}"
