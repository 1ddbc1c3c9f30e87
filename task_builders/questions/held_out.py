"""Whether held-out cases suffice: a program that passes them all must do what is asked for, and cannot have memorized the outputs. Pure.

Three ways to pass without solving the task are excluded. Outputs of few cases could be memorized, so several cases with distinct outputs
are required. A program that copies words by position passes all renamings, also with each record doubled. A table of the visible records
with their parts of the visible output passes any selection, order or repetition of these records. So at least one case must have records
that are not visible, in another structure, and words in its output that the visible output lacks.
"""

import json
import re
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from envfarm.core.plan import Relation
from envfarm.grading import outputs
from task_builders.questions.variants import BY_PLACES

MIN_CASES = 3
"""Minimum number of held-out cases with distinct outputs; with fewer, the outputs could be memorized."""
BETWEEN_CELLS = re.compile(r"[;:|,\s]+")
ROW_NUMBER = re.compile(r"^[ \t]*\d+[ \t]+(?=\S)", re.MULTILINE)
"""A row number, or any other number at the beginning of a line."""


class Example(NamedTuple):
    """Inputs and their output."""

    inputs: Mapping[str, str]
    """File names and their texts."""
    output: str


def are_enough(visible: Example, others: Mapping[str, Example], relation: Relation) -> bool:
    """Whether the other cases suffice beside the visible one.

    Args:
        visible: the example that the agent sees.
        others: the held-out cases, by the names of their variants.
        relation: how outputs are compared; outputs that it treats as equal count once.
    """
    shown = _form(visible, relation)
    telling = {name: form for name, each in others.items() if (form := _form(each, relation)) != shown}
    return len(set(telling.values())) >= MIN_CASES and any(_has_new_content(visible, others[name]) for name in telling.keys() - BY_PLACES)


def _has_new_content(visible: Example, other: Example) -> bool:
    """Whether an example has records that are not visible, and words in its output that the visible output lacks."""
    news = any(_smallest_parts(text, like=visible.inputs.get(name, "")) for name, text in other.inputs.items())
    return news and not _words(other) <= _words(visible)


def _words(example: Example) -> set[str]:
    """The words of an output, without row numbers: these stand in no input and depend only on a record's position."""
    rows = {number.strip() for number in ROW_NUMBER.findall(example.output)}
    given = set(re.findall(r"\w+", " ".join(example.inputs.values())))
    return set(re.findall(r"\w+", ROW_NUMBER.sub("", example.output))) | rows & given


def _form(example: Example, relation: Relation) -> Hashable:
    return outputs.normal(example.output.encode(), relation)


def _smallest_parts(text: str, *, like: str) -> set[str]:
    """The smallest parts of a text that the other lacks: JSON values with their names, lines, or the cells of a one-line text."""
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
