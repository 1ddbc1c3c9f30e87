"""Whether a program's output is the expected one, by the relation that a case names. Pure, standard library only.

It runs outside the box, so that nothing in the box can forge the comparison. Output is hostile: what cannot be parsed is unequal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator

from envfarm.core.plan import Relation

TIMES_LARGER = 16
SPARE_BYTES = 1 << 20
"""An output larger than this many times the expected one plus the spare bytes differs in any layout. It is not parsed: parsing can take
thirty times its bytes of memory."""
WHITE = re.compile(r"[ \t\r\n]*")


def same(expected: bytes, given: bytes, relation: Relation) -> bool:
    """Whether two outputs are the same.

    `exact`: byte for byte. `lines`: white space at the ends of lines and empty lines at the end are ignored. `columns`: so is the amount
    of white space between the words of a line and before its first word. `rows`: so is the order of the lines below the first. `json`: the
    same JSON values in the same order, whatever the layout. `table`: below a header, rows in any order and columns in any order, with the
    same cell under each name. A first column without a name is an index, and is compared like the others.
    """
    if len(given) > TIMES_LARGER * len(expected) + SPARE_BYTES:
        return False
    wanted = normal(expected, relation)
    return wanted is not None and wanted == normal(given, relation)


def normal(output: bytes, relation: Relation) -> Hashable | None:
    """The form of an output that a relation compares: equal if two outputs are the same. None if the output cannot be parsed."""
    if relation == "exact":
        return output
    try:
        text = output.decode()
        if relation == "json":
            return tuple(_values(text))
    except (ValueError, RecursionError):
        return None
    if relation == "table" and (rows := table(text)):
        return rows
    found = lines(text, columns=relation in ("columns", "rows", "table"))
    return (*found[:1], *sorted(found[1:])) if relation == "rows" else tuple(found)


def lines(text: str, *, columns: bool = False) -> list[str]:
    """The lines of a text, normalized for comparison."""
    found = [" ".join(line.split()) if columns else line.rstrip() for line in text.split("\n")]
    while found and not found[-1]:
        found.pop()
    return found


def table(text: str) -> tuple[tuple[str, ...], ...] | None:
    """The rows of a table below its header, with rows and columns sorted; None if a row does not have one cell for each column."""
    rows = [line.split() for line in lines(text)]
    if len(rows) < 2:  # noqa: PLR2004 - a header and a row
        return None
    head = [*([""] if all(len(row) == len(rows[0]) + 1 for row in rows[1:]) else []), *rows[0]]
    if len(set(head)) < len(head) or any(len(row) != len(head) for row in rows[1:]):
        return None
    order = sorted(range(len(head)), key=head.__getitem__)
    first, *others = [tuple(row[n] for n in order) for row in (head, *rows[1:])]
    return (first, *sorted(others))


def _values(text: str) -> Iterator[str]:
    """Each JSON value of a text, serialized (`1` and `true` are equal in Python, not in JSON). Raises `ValueError` for invalid JSON."""
    decoder = json.JSONDecoder()
    at = 0
    while (at := WHITE.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # it matches nothing, too
        value, at = decoder.raw_decode(text, at)
        yield json.dumps(value, sort_keys=True)
