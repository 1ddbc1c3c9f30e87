"""Splits inputs into records, and outputs into the part that belongs to each record. Pure.

If a program, run on each record alone, gives pieces that together in the records' order are the visible output, the asker's example
determines the output of any selection, order or repetition of the records. This is established with the program and checked against the
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
"""Separators of the cells of a one-line list, the likeliest first."""
NO_ROWS = "Empty DataFrame"
"""How pandas prints a table without rows."""
COLUMNS = 4
"""Number of columns that are tried for grouping lines."""
Form = Literal["lines", "lines with a header", "groups", "paragraphs", "elements", "members", "places", "cells"]
"""`places`: an object of lists of equal length, such as a table by its columns; the values at one index of all lists are a record."""


@dataclass(frozen=True, slots=True)
class Records:
    """One of a question's inputs split into records; the other inputs stay unchanged."""

    inputs: tuple[InputFile, ...]
    at: int
    """Index of that input."""
    form: Form
    head: str
    parts: tuple[Any, ...]
    separator: str = ""
    """Separator of cells."""

    def of(self, chosen: Sequence[int]) -> tuple[InputFile, ...]:
        """The inputs with only these records, in this order."""
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
        """Whether a record may occur twice: two groups of the same lines would be one."""
        return self.form not in ("members", "groups")

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of lines of each record."""
        return tuple(part.count("\n") if isinstance(part, str) else 1 for part in self.parts)


def replace_text(file: InputFile, text: str) -> InputFile:
    """The file with another text."""
    return InputFile(file.name, text)


def readings(inputs: Sequence[InputFile]) -> list[Records]:
    """The ways to see records in inputs, the likeliest first."""
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
    """The values at each index of lists of equal length; empty if the lengths differ or there is only one list."""
    lists = [each for each in value.values() if isinstance(each, list)]
    if len(value) < 2 or len(lists) < len(value) or len({len(each) for each in lists}) > 1:  # noqa: PLR2004 - one list is no table
        return ()
    return tuple(dict(zip(value, row, strict=True)) for row in zip(*lists, strict=True))


def _grouped(lines: Sequence[str], column: int) -> list[str]:
    """Adjacent lines with the same word in a column as groups; empty if a word recurs later, or every line is its own group."""
    separator = next((sign for sign in (",", "\t") if all(sign in line for line in lines)), None)
    cells = [line.strip().split(separator) for line in lines]
    if not lines or not all(len(row) > column for row in cells):
        return []
    found = ["".join(line for line, _ in group) for _, group in groupby(zip(lines, cells, strict=True), key=lambda pair: pair[1][column])]
    return found if len(found) == len({row[column] for row in cells}) < len(lines) else []


@dataclass(frozen=True, slots=True)
class Pieces:
    """The output of each record, and how pieces are combined."""

    records: Records
    relation: Relation
    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    """The rows (lines or JSON values) of each record."""
    shape: Literal["lines", "values", "list", "mapping", "places"]
    numbered: Literal["", "in sequence", "by line"] = ""
    """Whether each row begins with a number: that of the output's row, or of the input's line."""
    numbers: tuple[tuple[int, ...], ...] = ()
    """The numbers of the rows when their record was alone."""

    def output(self, chosen: Sequence[int]) -> str:
        """The expected output of these records, in this order."""
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
    """The pieces, if combined in order they are the visible output; else None.

    Args:
        records: those of the visible input.
        printed: the program's output for each record alone.
        visible: its output for all of them, which is the wanted one.
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
    columns = relation in ("columns", "rows", "table")
    each = [outputs.lines(text, columns=columns) for text in printed]
    shown = outputs.lines(visible, columns=columns)
    found = [replace(plain, rows=tuple(map(tuple, each)))]
    for height in (1, 2):
        first = shown[:height]
        headed = [first if lines[:1] == [NO_ROWS] else lines for lines in each]
        if len(first) < height or not all(lines[:height] == first for lines in headed):
            break
        bodies = tuple(tuple(lines[height:]) for lines in headed)
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
    """Append each record's lists to those before; a record without output adds nothing."""
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
