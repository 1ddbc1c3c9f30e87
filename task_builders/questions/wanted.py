"""Which of the outputs that are shown is wanted, and how outputs are compared with it. Pure; called by trials.

An output that only differs in layout is the same where the question's own block shows that it is layout: columns that are aligned, JSON
that is indented. Where nothing is shown, two answers that print the same say what is wanted.
"""

import ast
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from envfarm.core.plan import Relation
from envfarm.grading import outputs

ALIGNED = re.compile(r"\S(?:[ ]{2,}|\t)\S")
NAMED = re.compile(r"^\s*[A-Za-z_]\w*\s*=\s*(?=[\[{(\"'])")
REMARKS = re.compile(r"^(?:Name: .*dtype: \w+|dtype: \w+|\[\d+ rows x \d+ columns\])\s*$", re.MULTILINE)
"""What a library prints below its tables."""


class Wanted(NamedTuple):
    """The output that is wanted."""

    text: str
    relation: Relation
    witness: str


def choose(shown: Sequence[tuple[str, str]], printed: Sequence[tuple[int, str]], accepted: int) -> Wanted | None:
    """The first of the shown outputs that the accepted answer prints, with the strictest relation by which it does; or None.

    Args:
        shown: by whom, and the text.
        printed: what programs print: the answer's id and the text.
        accepted: id of the accepted answer.
    """
    for who, text in shown:
        form = _without_remarks(text)
        for relation in relations(form):
            if any(answer == accepted and outputs.same(_as(form, relation), out.encode(), relation) for answer, out in printed):
                return Wanted(_as(form, relation).decode(), relation, who)
    if shown:
        return None
    for answer, out in printed:
        if answer == accepted and any(a != accepted and outputs.same(o.encode(), out.encode(), "lines") for a, o in printed):
            return Wanted(out, "lines", "two answers")
    return None


def relations(text: str) -> tuple[Relation, ...]:
    """By which relations an output may be compared with this text, the strictest first."""
    layout: tuple[Relation, ...] = ("columns",) if ALIGNED.search(text) or re.search(r"^ +\S", text, re.MULTILINE) else ()
    return ("lines", *layout, *(("json",) if _as_json(text) is not None else ()))


def _as(text: str, relation: Relation) -> bytes:
    found = _as_json(text) if relation == "json" else None
    return (text if found is None else found).encode()


def _as_json(text: str) -> str | None:
    """Texts of JSON values as they are; Python's literals of containers, with or without a name before them, as JSON."""
    if text.lstrip()[:1] in "{[" and outputs.same(text.encode(), text.encode(), "json"):
        return text
    try:
        value = ast.literal_eval(NAMED.sub("", text, count=1).strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    try:
        return json.dumps(value, ensure_ascii=False) + "\n" if isinstance(value, list | dict | tuple) else None
    except (TypeError, ValueError):
        return None


def _without_remarks(text: str) -> str:
    return REMARKS.sub("", text).rstrip() + "\n"
