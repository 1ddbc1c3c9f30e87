"""Other inputs of the same form: reordered, repeated, with other values, one line, large, with unusual characters. Pure and seeded.

Values are changed consistently in all input files, so that joins still work. Words that a program names stay, since it searches for them.
Must not know the right outputs: agreeing answers determine these.
"""

import csv
import io
import json
import random
import re
import string
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from task_builders.questions.joining import InputFile
from task_builders.questions.records import Pieces

LARGE = 40
"""Copies of each line or element in the large variant, each with values of its own."""
MANY = 3
"""Factor by which the variant with many records exceeds the visible input."""
MIN_LINES_WITH_HEADER = 3
LIMIT_DIGITS = 6
"""Longer numbers in programs and sentences are no limits that values are compared with."""
DATE = r"(?<!\d)(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{4}|\d{1,2}:\d{2}(?::\d{2})?)(?!\d)"
TOKEN = re.compile(rf"{DATE}|[A-Za-z]{{2,}}|(?<!\w)[A-Za-z](?!\w)|\d+")
"""A date or time of day, a word, a single letter, or a number."""
OF_DATES = "jan feb mar apr may jun jul aug sep oct nov dec mon tue wed thu fri sat sun"
STAYS = frozenset({"true", "false", "null", "none", "nan"}).union(OF_DATES.split())
"""Words that are not changed."""
VOWELS, CONSONANTS, ODD = "aeiou", "bcdfghjklmnpqrstvwz", "éüñøł"
LETTERS = string.ascii_lowercase

RENAMINGS = frozenset(
    {"other values", "other words", "other words again", "unusual characters", "ordered numbers", "ordered numbers again"}
)
"""Variants that keep the number, order and repetition of everything: a program that copies words by position passes them."""
BY_PLACES = RENAMINGS | {"repeated, other values"}
"""Variants that such a program passes if it also prints each line twice when each record comes twice."""

REPEATING = frozenset({"repeated", "repeated, other values", "records twice", "many records"})
"""Variants in which a record occurs several times."""

Mapping = Callable[[str], str]


class Variant(NamedTuple):
    """The inputs in another form."""

    name: str
    inputs: tuple[InputFile, ...]
    foretold: Callable[[str], str] | None = None
    """From the visible output to this variant's, for programs that treat all values (or records) alike; None if nothing is predicted. If
    `copies` is set, it takes the visible output with its lines repeated."""
    of_records: bool = False
    """Whether the outputs of single records predict it."""
    copies: int = 0
    """How often its output has each of the visible output's lines, in their order; a first line that is a header comes once. 0 if nothing
    is predicted."""


def variants(inputs: Sequence[InputFile], kept: Collection[str], seed: int = 0) -> tuple[Variant, ...]:
    """The variants of inputs, without those that change nothing.

    Args:
        inputs: the visible ones.
        kept: words that must stay, such as those of the programs.
        seed: for what is drawn.
    """
    drawn = random.Random(seed)  # noqa: S311 - a draw that can be repeated, no secret

    def renaming(name: str, values: Values) -> Variant:
        changed = tuple(InputFile(i.name, _of_values(i.text, values)) for i in inputs)
        return Variant(name, changed, renamed(inputs, values))

    def of_parts(name: str, change: Callable[[list[Any]], list[Any]], *, copies: int = 0, values: Values | None = None) -> Variant:
        files = tuple(InputFile(i.name, _of_parts(i.text, change, members=copies == 1)) for i in inputs)
        made = Variant(name, files, copies=copies)
        return made if values is None else _with_values(made, inputs, values)

    named = {word.casefold() for word in kept}
    numbers = {token for each in inputs for token in TOKEN.findall(each.text) if token.isdigit()}

    def of_members(name: str, change: Callable[[dict[str, Any], Collection[str]], dict[str, Any]]) -> Variant:
        return Variant(name, tuple(InputFile(i.name, _of_objects(i.text, lambda each: change(each, named))) for i in inputs))

    def shuffled(name: str, values: Values | None = None) -> Variant:
        return of_parts(name, lambda parts: _shuffled(parts, drawn), copies=1, values=values)

    made = [
        shuffled("reordered"),
        of_parts("repeated", lambda parts: [part for part in parts for _ in range(2)], copies=2),
        renaming("other values", Values(kept, seed + 1)),
        renaming("other words", Values(kept, seed + 3, numbers=False)),
        renaming("other words again", Values(kept, seed + 4, numbers=False)),
        of_parts("one line", lambda parts: parts[:1]),
        Variant("large", tuple(InputFile(i.name, _large(i.text, kept, seed)) for i in inputs)),
        renaming("unusual characters", Values(kept, seed + 2, odd=True)),
        of_members("fewer members", _fewer),
        of_members("more members", _more),
        shuffled("reordered, other values", Values(kept, seed + 6)),
        shuffled("reordered, other words", Values(kept, seed + 11, numbers=False)),
        of_parts(
            "repeated, other values", lambda parts: [part for part in parts for _ in range(2)], copies=2, values=Values(kept, seed + 7)
        ),
    ]
    made.append(Variant("recombined", tuple(InputFile(i.name, _recombined(i.text, drawn)) for i in inputs)))
    limits = sorted({int(word) for word in named if word.isdigit() and len(word) <= LIMIT_DIGITS} - {0, 1})
    if limits and numbers:
        made.append(Variant("numbers at limits", tuple(InputFile(i.name, _at_limits(i.text, limits, drawn)) for i in inputs)))
    if numbers:
        made += [
            renaming("ordered numbers", Values(kept, seed + 12, ordered=numbers)),
            renaming("ordered numbers again", Values(kept, seed + 13, ordered=numbers)),
            shuffled("reordered, ordered numbers", Values(kept, seed + 14, ordered=numbers)),
        ]
    unordered = of_members("members reordered, other values", lambda members, _: dict(_shuffled(list(members.items()), drawn)))
    return distinct([*made, _with_values(unordered, inputs, Values(kept, seed + 10))], inputs)


def _with_values(variant: Variant, inputs: Sequence[InputFile], values: "Values") -> Variant:
    """A variant with other values as well. If its parts are the same it changes nothing: a mere renaming is another variant."""
    if [_as_parts(each.text) for each in variant.inputs] == [_as_parts(each.text) for each in inputs]:
        return variant._replace(inputs=tuple(inputs))
    files = tuple(InputFile(i.name, _of_values(i.text, values)) for i in variant.inputs)
    return variant._replace(inputs=files, foretold=renamed(inputs, values))


def distinct(made: Iterable[Variant], inputs: Sequence[InputFile]) -> tuple[Variant, ...]:
    """Variants without those that change nothing or equal an earlier one."""
    seen = {tuple(inputs)}
    return tuple(v for v in made if v.inputs not in seen and not seen.add(v.inputs))  # type: ignore[func-returns-value]


def renamed(inputs: Sequence[InputFile], values: Mapping) -> Callable[[str], str]:
    """Maps an output to that of inputs with other values, if all values are treated alike; names of JSON members stay."""
    names = {name for each in inputs for name in _member_names(_json(each.text))}
    stays = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in sorted(names, key=len, reverse=True) if name)
    known = {token.casefold() for each in inputs for token in TOKEN.findall(each.text)}

    def change(match: re.Match[str]) -> str:
        return values(match[0]) if match[0] not in names and match[0].casefold() in known else match[0]

    pattern = re.compile(f"{stays}|{TOKEN.pattern}" if stays else TOKEN.pattern)
    return lambda output: pattern.sub(change, output)


def _member_names(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(_member_names, value.values()))
    return set[str]().union(*map(_member_names, value)) if isinstance(value, list) else set()


def of_records(pieces: Pieces, kept: Collection[str], seed: int = 0) -> tuple[Variant, ...]:
    """Other selections, orders and repetitions of the visible records, also with other words and values; each record's output predicts
    them.

    Args:
        pieces: the output of each record.
        kept: words that must stay.
        seed: for what is drawn.
    """
    drawn = random.Random(seed)  # noqa: S311 - a draw that can be repeated, no secret
    records = pieces.records
    every = list(range(len(records.parts)))
    telling = [n for n in every if pieces.rows[n]]
    shuffled = _shuffled(every, drawn)
    chosen = {"records in another order": shuffled, "one record": telling[-1:], "some records": [n for n in every if n != telling[0]]}
    if records.repeatable:
        chosen["records twice"] = [n for n in every for _ in range(2)]
        chosen["many records"] = drawn.choices(every, k=MANY * len(every))
    made = [Variant(name, records.of(some), _always(pieces.output(some)), of_records=True) for name, some in chosen.items()]
    others = {
        "other records": (shuffled, Values(kept, seed + 5, numbers=False)),
        "other records, other numbers": (shuffled, Values(kept, seed + 8)),
        "some other records": (chosen["some records"], Values(kept, seed + 9)),
    }
    for name, (some, values) in others.items():
        inputs = tuple(InputFile(i.name, _of_values(i.text, values)) for i in records.of(some))
        foretold = renamed(records.inputs, values)(pieces.output(some))
        made.append(Variant(name, inputs, _always(foretold), of_records=True))
    return distinct(made, records.inputs)


def _always(text: str) -> Callable[[str], str]:
    return lambda _: text


class Values:
    """Maps values to others of the same form: words of the same length and case, digits for digits. Equal values map to equal ones,
    different to different ones; a word in another case is the same word. Dates and times stay, since others may not exist.

    Without `numbers`, numbers stay and words keep their first letters, and so mostly their order; single letters keep their order. With
    `ordered` numbers, these change and keep their order, and all else is as without numbers.
    """

    def __init__(self, kept: Collection[str], seed: int, *, odd: bool = False, numbers: bool = True, ordered: Collection[str] = ()) -> None:
        self._kept = {word.casefold() for word in kept} | STAYS
        self._random = random.Random(seed)  # noqa: S311 - see above
        self._odd = odd
        self._numbers = numbers and not ordered
        self._known = self._in_order({number for number in ordered if number[0] != "0" and number not in self._kept})
        self._given: set[str] = set()

    def __call__(self, token: str) -> str:
        """The value that replaces a token."""
        word = token.casefold()
        stays = word in self._kept or not token.isalnum() or (not self._numbers and token.isdigit())
        if stays and word not in self._known:
            return token
        if word not in self._known:
            fresh = next((w for w in (self._drawn(word) for _ in range(20)) if w not in self._given and w not in self._kept), word)
            self._known[word] = fresh
            self._given.add(fresh)
        return "".join(new.upper() if old.isupper() else new for old, new in zip(token, self._known[word], strict=True))

    def _in_order(self, numbers: Collection[str]) -> dict[str, str]:
        """Others for numbers without leading zeros, as long and in the same order."""
        found: dict[str, str] = {}
        for length in sorted({len(number) for number in numbers}):
            old = sorted(number for number in numbers if len(number) == length)
            new = sorted(self._random.sample(range(10 ** (length - 1), 10**length), len(old)))
            found |= zip(old, map(str, new), strict=True)
        return found

    def _drawn(self, token: str) -> str:
        if token.isdigit():
            first = token[0] if token[0] == "0" or self._odd else str(self._random.randint(1, 9))
            return first + "".join(str(self._random.randint(0, 9)) for _ in token[1:])
        if len(token) == 1 and not self._odd:
            return self._after(token)
        letters = [c if n == 0 and not self._numbers else self._letter(c) for n, c in enumerate(token)]
        if self._odd:
            letters[self._random.randrange(len(letters))] = self._random.choice(ODD)
        return "".join(letters)

    def _after(self, letter: str) -> str:
        """One of the next two letters that no program names; replacing all letters like this keeps their order."""
        at = LETTERS.index(letter)
        free = [each for each in LETTERS[at + 1 :] + LETTERS[:at] if each not in self._kept]
        left = [each for each in free if each not in self._given]
        return self._random.choice([each for each in free[:2] if each in left] or left[:1] or [letter])

    def _letter(self, old: str) -> str:
        return self._random.choice(VOWELS if old in VOWELS else CONSONANTS)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_parts(text: str, change: Callable[[list[Any]], list[Any]], *, members: bool) -> str:
    """Change the order or number of lines (the first of several stays where it may be a header); in JSON, of the elements of the outermost
    arrays, and with `members` also the order of an object's members.
    """
    value = _json(text)
    if isinstance(value, list | dict):
        return json.dumps(_parts_of_json(value, change, members=members), indent=2, ensure_ascii=False) + "\n"
    lines = text.splitlines(keepends=True)
    head = 1 if len(lines) >= MIN_LINES_WITH_HEADER else 0
    return "".join([*lines[:head], *change(lines[head:])])


def _recombined(text: str, drawn: random.Random) -> str:
    """New records of old values: in a table or a list of objects with the same names, the values of each column but the first in another
    order. Other texts stay.
    """
    value = _json(text)
    if isinstance(value, list) and value and all(isinstance(each, dict) and list(each) == list(value[0]) for each in value):
        rows = _recombined_rows([list(each.values()) for each in value], drawn)
        return json.dumps([dict(zip(value[0], row, strict=True)) for row in rows], indent=2, ensure_ascii=False) + "\n"
    lines = text.splitlines()
    if value is not None or len(lines) < MIN_LINES_WITH_HEADER:
        return text
    sign = next((sign for sign in (",", "\t", ";", "|") if all(sign in line for line in lines)), None)
    try:
        cells = [list(row) for row in (csv.reader(lines[1:], delimiter=sign) if sign else map(str.split, lines[1:]))]
    except csv.Error:
        return text
    if len({len(row) for row in cells}) > 1:
        return text
    made = _recombined_rows(cells, drawn)
    if not sign:
        return "".join(f"{line}\n" for line in (lines[0], *("  ".join(row) for row in made)))
    written = io.StringIO()
    csv.writer(written, delimiter=sign, lineterminator="\n").writerows(made)
    return f"{lines[0]}\n{written.getvalue()}"


def _recombined_rows(rows: list[list[Any]], drawn: random.Random) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns[:1], *(_shuffled(column, drawn) for column in columns[1:]), strict=True)] if columns else rows


def _at_limits(text: str, limits: Sequence[int], drawn: random.Random) -> str:
    """Half of the numbers, drawn, become one of the limits or a number beside it; those of a header stay."""
    near = [number for limit in limits for number in (limit - 1, limit, limit + 1)]

    def change(token: str) -> str:
        return str(drawn.choice(near)) if token.isdigit() and drawn.random() < 1 / 2 else token

    if _json(text) is not None:
        return _of_values(text, change)
    lines = text.splitlines(keepends=True)
    head = 1 if len(lines) >= MIN_LINES_WITH_HEADER else 0
    return "".join([*lines[:head], _of_values("".join(lines[head:]), change)])


def _shuffled(parts: list[Any], drawn: random.Random) -> list[Any]:
    """In another order, if there is one."""
    found = drawn.sample(parts, len(parts))
    return found if found != parts else parts[::-1]


def _as_parts(text: str) -> str:
    """The text without JSON layout."""
    value = _json(text)
    return text if value is None else json.dumps(value)


def _parts_of_json(value: Any, change: Callable[[list[Any]], list[Any]], *, members: bool) -> Any:
    if isinstance(value, list):
        return change(value)
    if isinstance(value, dict):
        items = change(list(value.items())) if members else list(value.items())
        return {k: _parts_of_json(v, change, members=members) for k, v in items}
    return value


def _of_objects(text: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> str:
    """Change the members of every object; nothing if the text is not JSON."""
    value = _json(text)
    if not isinstance(value, list | dict):
        return text
    return json.dumps(_objects_of_json(value, change), indent=2, ensure_ascii=False) + "\n"


def _objects_of_json(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, list):
        return [_objects_of_json(each, change) for each in value]
    return {k: _objects_of_json(v, change) for k, v in change(value).items()} if isinstance(value, dict) else value


def _unnamed(members: dict[str, Any], named: Collection[str]) -> list[str]:
    return [name for name in members if not {word.casefold() for word in TOKEN.findall(name)} & set(named)]


def _fewer(members: dict[str, Any], named: Collection[str]) -> dict[str, Any]:
    """The object without its last member that no program names; at least one member stays."""
    gone = _unnamed(members, named)[-1:] if len(members) > 1 else []
    return {k: v for k, v in members.items() if k not in gone}


def _more(members: dict[str, Any], named: Collection[str]) -> dict[str, Any]:
    """The object with its first member that no program names repeated under another name."""
    return members | {f"{name}2": members[name] for name in _unnamed(members, named)[:1]}


def _of_values(text: str, values: Mapping) -> str:
    """Change tokens; in JSON, those of values, not of keys."""
    value = _json(text)
    if isinstance(value, list | dict):
        return json.dumps(_values_of_json(value, values), indent=2, ensure_ascii=False) + "\n"
    return TOKEN.sub(lambda m: values(m[0]), text)


def _values_of_json(value: Any, values: Mapping) -> Any:
    if isinstance(value, list):
        return [_values_of_json(v, values) for v in value]
    if isinstance(value, dict):
        return {k: _values_of_json(v, values) for k, v in value.items()}
    if isinstance(value, str):
        return TOKEN.sub(lambda m: values(m[0]), value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int(TOKEN.sub(lambda m: values(m[0]), str(value)))
    return value


def _large(text: str, kept: Collection[str], seed: int) -> str:
    """Many copies, each with other values."""
    copies = [Values(kept, seed + 100 + n) for n in range(LARGE)]
    value = _json(text)
    if isinstance(value, list):
        return json.dumps([_values_of_json(v, each) for each in copies for v in value], indent=2, ensure_ascii=False) + "\n"
    if isinstance(value, dict):
        return text
    lines = text.splitlines(keepends=True)
    head = 1 if len(lines) >= MIN_LINES_WITH_HEADER else 0
    return "".join([*lines[:head], *(_of_values("".join(lines[head:]), each) for each in copies)])
