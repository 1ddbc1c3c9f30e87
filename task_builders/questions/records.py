"""Inputs as records, and outputs as what comes of each. Pure; called by trials.

Where a program gives for each record alone a piece of the output, and the visible output is these pieces in the records' order, the asker's
example says what must come of any choice, order or repetition of the records. That is tried with the program and checked against the
visible output; nothing is taken from the program alone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any, Literal

from envfarm.core.plan import Relation
from envfarm.grading import outputs
from task_builders.questions.joining import InputFile

MAX_RECORDS = 40
MIN_RECORDS = 2
MIN_CELLS = 3
SEPARATORS = (";", ":", "|", "\t", ", ", ",", " ")
"""Of the cells of a list that stands in one line, the likelier first."""
NO_ROWS = "Empty DataFrame"
"""How a library prints a table without rows."""
COLUMNS = 4
"""Of which each may be what groups lines."""
Form = Literal["lines", "lines with a header", "groups", "paragraphs", "elements", "members", "places", "cells"]
"""`places`: an object of lists that are all as long, such as a table by its columns; what stands at one place of each is a record."""


@dataclass(frozen=True, slots=True)
class Records:
    """One of a question's inputs taken apart; the others stay."""

    inputs: tuple[InputFile, ...]
    at: int
    """Which of the inputs."""
    form: Form
    head: str
    parts: tuple[Any, ...]
    separator: str = ""
    """Between cells."""

    def of(self, chosen: Sequence[int]) -> tuple[InputFile, ...]:
        """The inputs with these records alone, in this order."""
        text = self._joined([self.parts[n] for n in chosen])
        return tuple(replace_text(each, text) if n == self.at else each for n, each in enumerate(self.inputs))

    def _joined(self, parts: list[Any]) -> str:
        if self.form == "elements":
            return json.dumps(parts, indent=2, ensure_ascii=False) + "\n"
        if self.form == "members":
            return json.dumps(dict(parts), indent=2, ensure_ascii=False) + "\n"
        if self.form == "places":
            return json.dumps({name: [part[name] for part in parts] for name in self.parts[0]}, indent=2, ensure_ascii=False) + "\n"
        if self.form == "cells":
            return self.separator.join(parts) + "\n"
        return self.head + ("\n" if self.form == "paragraphs" else "").join(parts)

    @property
    def repeatable(self) -> bool:
        """Whether a record may come twice: two groups of the same lines would be one."""
        return self.form not in ("members", "groups")

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many lines each has."""
        return tuple(part.count("\n") if isinstance(part, str) else 1 for part in self.parts)


def replace_text(file: InputFile, text: str) -> InputFile:
    """The file with another text."""
    return InputFile(file.name, text)


def readings(inputs: Sequence[InputFile]) -> list[Records]:
    """The ways to see records in inputs, the likelier first."""
    found: list[Records] = []
    for at, each in enumerate(inputs):
        plain = Records(tuple(inputs), at, "lines", "", ())
        try:
            value = json.loads(each.text)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, list | dict):
            parts = tuple(value) if isinstance(value, list) else tuple(value.items())
            found.append(replace(plain, form="elements" if isinstance(value, list) else "members", parts=parts))
            if isinstance(value, dict) and len(places := _places(value)) > 1:
                found.append(replace(plain, form="places", parts=places))
            continue
        lines = each.text.splitlines(keepends=True)
        if len(lines) == 1:
            separator = next((sign for sign in SEPARATORS if len(each.text.split(sign)) >= MIN_CELLS), None)
            cells = tuple(each.text.rstrip("\n").split(separator)) if separator else ()
            found += [replace(plain, form="cells", parts=cells, separator=separator)] if separator else []
            continue
        paragraphs = [part.rstrip("\n") + "\n" for part in each.text.split("\n\n") if part.strip()]
        if len(paragraphs) > 1 and len(paragraphs) < len([line for line in lines if line.strip()]):
            found.append(replace(plain, form="paragraphs", parts=tuple(paragraphs)))
        found.append(replace(plain, parts=tuple(lines)))
        found.append(replace(plain, form="lines with a header", head="".join(lines[:1]), parts=tuple(lines[1:])))
        for head in (0, 1):
            groups = dict.fromkeys(tuple(_grouped(lines[head:], column)) for column in range(COLUMNS))
            found += [replace(plain, form="groups", head="".join(lines[:head]), parts=parts) for parts in groups if parts]
    return [each for each in found if MIN_RECORDS <= len(each.parts) <= MAX_RECORDS]


def _places(value: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """What stands at each place of lists that are all as long; nothing where they are not, or there is one alone."""
    lists = [each for each in value.values() if isinstance(each, list)]
    if len(value) < 2 or len(lists) < len(value) or len({len(each) for each in lists}) > 1:  # noqa: PLR2004 - one list is no table
        return ()
    return tuple(dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True))


def _grouped(lines: Sequence[str], column: int) -> list[str]:
    """Neighbours with the same word in a column, together; nothing where a word comes again later, or each line has its own."""
    separator = next((sign for sign in (",", "\t") if all(sign in line for line in lines)), None)
    cells = [line.strip().split(separator) for line in lines]
    if not lines or not all(len(row) > column for row in cells):
        return []
    found = ["".join(line for line, _ in group) for _, group in groupby(zip(lines, cells, strict=True), key=lambda pair: pair[1][column])]
    return found if len(found) == len({row[column] for row in cells}) < len(lines) else []


@dataclass(frozen=True, slots=True)
class Pieces:
    """What comes of each record, and how pieces are put together."""

    records: Records
    relation: Relation
    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """Of each record: lines, or JSON values."""
    shape: Literal["lines", "values", "list", "mapping", "places"]
    numbered: Literal["", "in sequence", "by line"] = ""
    """Whether each row begins with a number: of the output's rows, or of the input's lines."""
    numbers: tuple[tuple[int, ...], ...] = ()
    """Those that rows had when their record was alone."""

    def output(self, chosen: Sequence[int]) -> str:
        """What must come of these records, in this order."""
        rows = [(at, row) for at, n in enumerate(chosen) for row in self.rows[n]]
        if self.shape == "list":
            return json.dumps([row for _, row in rows]) + "\n"
        if self.shape == "places":
            lists: dict[str, list[Any]] = {name: [] for name in self.head}
            for _, (name, values) in rows:
                lists[name] += values
            return json.dumps(lists) + "\n"
        if self.shape == "mapping":
            return json.dumps(dict(row for _, row in rows)) + "\n"
        if self.shape == "values":
            return "".join(json.dumps(row) + "\n" for _, row in rows)
        if self.numbered:
            before = [0, *accumulate(self.records.sizes[n] for n in chosen)]
            by_line = [before[at] + number for at, n in enumerate(chosen) for number in self.numbers[n]]
            numbers = range(len(rows)) if self.numbered == "in sequence" else by_line
            rows = [(at, f"{number} {row}") for number, (at, row) in zip(numbers, rows, strict=True)]
        return "".join(f"{line}\n" for line in (*self.head, *(row for _, row in rows)))


def pieces(records: Records, printed: Sequence[str], visible: str, relation: Relation) -> Pieces | None:
    """The pieces, where put together in order they are the visible output; None where they are not.

    Args:
        records: the visible input's.
        printed: what the program printed for each of them alone.
        visible: what it printed for all of them, which is what is wanted.
        relation: how outputs are compared.
    """
    everything = range(len(records.parts))
    for each in _tried(records, printed, visible, relation):
        if outputs.same(visible.encode(), each.output(everything).encode(), relation) and len({str(row) for row in each.rows if row}) > 1:
            return each
    return None


def _tried(records: Records, printed: Sequence[str], visible: str, relation: Relation) -> list[Pieces]:
    plain = Pieces(records, relation, (), (), "lines")
    if relation == "json":
        return _tried_json(plain, printed, visible)
    columns = relation in ("columns", "table")
    each = [outputs.lines(text, columns=columns) for text in printed]
    shown = outputs.lines(visible, columns=columns)
    found = [replace(plain, rows=tuple(map(tuple, each)))]
    for height in (1, 2):
        first = shown[:height]
        told = [first if lines[:1] == [NO_ROWS] else lines for lines in each]
        if len(first) < height or not all(lines[:height] == first for lines in told):
            break
        bodies = tuple(tuple(lines[height:]) for lines in told)
        found.append(replace(plain, head=tuple(first), rows=bodies))
        if columns and all(row.split(" ", 1)[0].isdigit() for body in bodies for row in body):
            numbers = tuple(tuple(int(row.split(" ", 1)[0]) for row in body) for body in bodies)
            bare = tuple(tuple(row.partition(" ")[2] for row in body) for body in bodies)
            with_numbers = replace(plain, head=tuple(first), rows=bare, numbers=numbers)
            found += [replace(with_numbers, numbered="in sequence"), replace(with_numbers, numbered="by line")]
    return found


def _tried_json(plain: Pieces, printed: Sequence[str], visible: str) -> list[Pieces]:
    try:
        each = [list(_values(text)) for text in printed]
        shown = list(_values(visible))
    except ValueError:
        return []
    found = [replace(plain, rows=tuple(map(tuple, each)), shape="values")]
    single = [values[0] for values in each if len(values) == 1]
    if len(single) == len(each) and len(shown) == 1:
        if all(isinstance(value, list) for value in single):
            found.append(replace(plain, rows=tuple(map(tuple, single)), shape="list"))
        if all(isinstance(value, dict) for value in single):
            found.append(replace(plain, rows=tuple(tuple(value.items()) for value in single), shape="mapping"))
        if plain.records.form == "places" and all(isinstance(value, dict) for value in single):
            found += _by_place(plain, single)
    return found


def _by_place(plain: Pieces, single: Sequence[dict[str, Any]]) -> list[Pieces]:
    """Each record's lists go to the ends of those before; a record that gives none gives nothing."""
    names = tuple(single[0])
    if not all(tuple(value) == names and all(isinstance(each, list) for each in value.values()) for value in single):
        return []
    rows = tuple(tuple(value.items()) if any(value.values()) else () for value in single)
    return [replace(plain, head=names, rows=rows, shape="places")]


def _values(text: str) -> list[Any]:
    decoder, found, at = json.JSONDecoder(), [], 0
    stripped = text.strip()
    while at < len(stripped):
        value, at = decoder.raw_decode(stripped, at)
        found.append(value)
        at += len(stripped[at:]) - len(stripped[at:].lstrip())
    return found
