"""Which of the outputs shown is the wanted one, and how outputs are compared with it. Pure.

Layout counts only if the question shows that it does: it mentions layout, nothing but layout differs between input and output, or indented
lines of the input appear unchanged in the output. Otherwise columns are compared by their words, and JSON by its values. Tables printed
from data frames are always compared by words, since their widths follow from the values. If no output is shown, two answers that print the
same define what is wanted.
"""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from envfarm.core.plan import Relation
from envfarm.grading import outputs
from task_builders.languages.python.syntax import value_of

ALIGNED = re.compile(r"\S(?:[ ]{2,}|\t)\S")
NAMED = re.compile(r"^\s*[A-Za-z_]\w*\s*=\s*(?=[\[{(\"'])")
INDENTED = re.compile(r"^[ \t]+\S.*$", re.MULTILINE)
ABOUT_LAYOUT = re.compile(
    r"\b(?:align\w*|indent\w*|padd(?:ed|ing)|white ?spaces?|blanks|spaces|tabs?|fixed[- ]width|pretty[- ]?print\w*|compact|minif\w+|"
    r"column -t|spac(?:ed|ing)|one[- ]line|single[- ]line|sort\w* (?:the |by )?keys|order of (?:the )?keys)\b",
    re.IGNORECASE,
)
"""Words of an asker whose question is about the output's layout."""
ABOUT_ORDER = re.compile(r"\b(?:sort\w*|(?:re)?order(?:ed|ing)?(?! (?:to|that)\b)|rank\w*|arrang\w*|ascending|descending)\b", re.IGNORECASE)
"""Words of an asker whose question is about order."""
ARRAY = re.compile(r"\[[\[\]\d.eE+\s-]*\]")
"""Numbers in brackets, without commas, as numpy prints an array."""
BETWEEN_NUMBERS = re.compile(r"(?<=[\d.\]])\s+(?=[\[\d.+-])")
NAN = re.compile(r"(?<!\S)NaN(?!\S)")
QUOTED = re.compile(r"""(["'])([^"'\n]+)\1""")
REMARKS = re.compile(r"^(?:Name: .*dtype: \w+|dtype: \w+|\[\d+ rows x \d+ columns\])\s*$", re.MULTILINE)
"""Lines that a library prints below its tables."""


class Wanted(NamedTuple):
    """The output that is wanted."""

    text: str
    relation: Relation
    witness: str


class Printed(NamedTuple):
    """A program's output for the visible input."""

    answer: int
    text: str
    table: bool = False
    """Whether it was printed from a data frame, whose layout the library chose."""


class Asked(NamedTuple):
    """The parts of a question that show whether layout counts."""

    words: str = ""
    inputs: tuple[str, ...] = ()

    def lays_out(self, output: str) -> bool:
        """Whether this output's layout is asked for."""
        if ABOUT_LAYOUT.search(self.words):
            return True
        kept = {line for text in self.inputs for line in INDENTED.findall(text)}
        as_given = any(outputs.same(text.encode(), output.encode(), "columns") for text in self.inputs)
        return as_given or (_as_json(output) is None and any(line in kept for line in INDENTED.findall(output)))


def choose(shown: Sequence[tuple[str, str]], printed: Sequence[Printed], accepted: int, asked: Asked = Asked()) -> Wanted | None:  # noqa: B008 - it is frozen
    """The first of the outputs shown that the accepted answer prints, with the first relation by which it does; or None.

    What the asker shows may be printed by another answer instead: an accepted answer is often a fragment or an explanation. An answer's own
    transcript counts only if the asker shows no output: one that contradicts the asker's example could not be recognized. In the accepted
    answer, only the order of a table's rows and columns may differ: by accepting it the asker said that order does not count.

    Args:
        shown: by whom, and the text.
        printed: outputs of programs.
        accepted: id of the accepted answer.
        asked: shows whether layout counts.
    """
    own = [each for each in printed if each.answer == accepted]
    others = [each for each in printed if each.answer != accepted]
    asked_for = [pair for pair in shown if pair[0] == "asker"]
    for who, text in asked_for or shown:
        for programs in (own, others) if who == "asker" else (own,):
            if found := _as_printed(who, text, programs, asked):
                return found
    for who, text in asked_for:
        if found := _in_any_order(who, text, own, asked) or _with_blanks(who, text, own):
            return found
    if shown:
        return None
    for each in own:
        tried = relations(each.text, laid_out=asked.lays_out(each.text), table=each.table)
        relation = next(one for one in tried if outputs.same(each.text.encode(), each.text.encode(), one))
        if any(outputs.same(o.text.encode(), each.text.encode(), relation) for o in others):
            return Wanted(each.text, relation, "two answers")
    return None


def _as_printed(who: str, text: str, printed: Sequence[Printed], asked: Asked) -> Wanted | None:
    """A shown output with the first relation by which a program prints it."""
    plain = _without_remarks(text)
    for form in (plain, *_unquoted(plain)):
        for relation in relations(form, laid_out=asked.lays_out(form), table=any(each.table for each in printed)):
            if any(outputs.same(_as(form, relation), each.text.encode(), relation) for each in printed):
                return Wanted(_as(form, relation).decode(), relation, who)
    return None


def _in_any_order(who: str, text: str, own: Sequence[Printed], asked: Asked) -> Wanted | None:
    """A shown table whose rows or columns the accepted answer prints in another order: the asker accepted that. Not if the question is
    about order, or if spaces count.
    """
    plain = _without_remarks(text)
    tried = relations(plain, laid_out=asked.lays_out(plain), table=any(each.table for each in own))
    if ABOUT_ORDER.search(asked.words) or "columns" not in tried:
        return None
    for form in (plain, *_without_count(plain)):
        for each in own:
            if outputs.table(form) is not None and outputs.same(form.encode(), each.text.encode(), "table"):
                return Wanted(form, "table", who)
    return None


def in_any_order(output: str, words: str) -> Relation:
    """How a data frame's table is compared: rows, and columns where each row has a cell for each, in any order, unless the asker's words
    are about order. A library orders groups and columns by their names, which most examples do not show.
    """
    if ABOUT_ORDER.search(words):
        return "columns"
    return "rows" if outputs.table(output) is None else "table"


def _with_blanks(who: str, text: str, own: Sequence[Printed]) -> Wanted | None:
    """A shown table with blanks where the accepted answer prints `NaN`: as the answer prints it, which the instruction mentions."""
    shown = _without_remarks(text).encode()
    for each in own:
        blank = NAN.sub("", each.text)
        if each.table and blank != each.text and outputs.same(shown, blank.encode(), "columns"):
            return Wanted(each.text, "columns", who)
    return None


def _unquoted(text: str) -> tuple[str, ...]:
    """One line in quotes, without them: some askers quote the wanted output."""
    match = QUOTED.fullmatch(text.strip())
    return (f"{match[2]}\n",) if match else ()


def _without_count(text: str) -> tuple[str, ...]:
    """A table without an unnamed first column that only counts the rows: a library adds it."""
    head, *rows = text.splitlines() or [""]
    cells = [row.split(maxsplit=1) for row in rows]
    counts = bool(rows) and [cell[0] if cell else "" for cell in cells] == [str(n) for n in range(len(rows))]
    wider = {len(row.split()) for row in rows} == {len(head.split()) + 1}
    return ("\n".join([head, *(cell[-1] for cell in cells), ""]),) if counts and wider else ()


def relations(text: str, *, laid_out: bool = False, table: bool = False) -> tuple[Relation, ...]:
    """The relations by which an output may be compared with this text, in the order to try.

    Args:
        text: the output shown.
        laid_out: whether its layout is asked for; then the strictest relation comes first.
        table: whether it may have been printed from a data frame.
    """
    has_columns = table or ALIGNED.search(text) or INDENTED.search(text)
    values: tuple[Relation, ...] = ("json",) if _as_json(text) is not None else ()
    columns: tuple[Relation, ...] = ("columns",) if has_columns else ()
    if laid_out and not table:
        return ("lines", *columns, *values)
    return (*values, *columns, "lines")


def _as(text: str, relation: Relation) -> bytes:
    found = _as_json(text) if relation == "json" else None
    return (text if found is None else found).encode()


def _as_json(text: str) -> str | None:
    """Texts of JSON values as they are; Python container literals and printed arrays, with or without a name before them, as JSON."""
    if text.lstrip()[:1] in "{[" and outputs.same(text.encode(), text.encode(), "json"):
        return text
    bare = NAMED.sub("", text, count=1).strip()
    try:
        value = value_of(BETWEEN_NUMBERS.sub(", ", bare) if ARRAY.fullmatch(bare) else bare)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    try:
        return json.dumps(value, ensure_ascii=False) + "\n" if isinstance(value, list | dict | tuple) else None
    except (TypeError, ValueError):
        return None


def _without_remarks(text: str) -> str:
    return REMARKS.sub("", text).rstrip() + "\n"
