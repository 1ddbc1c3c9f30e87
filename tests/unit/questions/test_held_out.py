"""Whether a program that passes all held-out cases must do what is asked for."""

import pytest

from envfarm.core.plan import Relation
from task_builders.questions.held_out import Example, are_enough

VISIBLE = Example({"x.txt": "kim 1\nlee 2\nmax 3\n"}, "KIM\nLEE\nMAX\n")


def of(*names: str) -> Example:
    numbers = {"kim": 1, "lee": 2, "max": 3}
    return Example({"x.txt": "".join(f"{name} {numbers.get(name, 9)}\n" for name in names)}, "".join(f"{name.upper()}\n" for name in names))


CHOICES = {"one record": of("max"), "some records": of("lee", "max"), "records twice": of("kim", "kim", "lee", "lee", "max", "max")}


@pytest.mark.parametrize(
    ("others", "enough"),
    [
        ({}, False),
        ({"large": of("zoe", "ann")}, False),
        ({"a": of("zoe"), "b": of("ann"), "c": of("tom")}, True),
        (CHOICES, False),
        ({**CHOICES, "other records": of("lee", "kim", "max")}, False),
        ({**CHOICES, "other records": of("zoe", "kim")}, True),
        ({**CHOICES, "other values": of("zoe", "ann", "tom")}, False),
        ({**CHOICES, "other records": Example({"x.txt": "zoe 4\nlee 2\n"}, "LEE\n")}, False),
        ({**CHOICES, "other values": of("zoe", "ann", "tom"), "repeated, other values": of("zoe", "zoe", "ann", "ann")}, False),
        ({"other words": of("z", "y", "x"), "other values": of("a", "b", "c"), "unusual characters": of("é", "ñ", "ø")}, False),
    ],
)
def test_a_table_of_the_visible_records_does_not_pass_and_neither_do_renamings(others: dict[str, Example], *, enough: bool) -> None:
    assert are_enough(VISIBLE, others, "lines") is enough


@pytest.mark.parametrize(
    ("shown", "other", "is_new"),
    [
        ('[{"n": "kim"}, {"n": "lee"}]', '[{"n": "lee"}]', False),
        ('[{"n": "kim"}, {"n": "lee"}]', '[{"n": "zoe"}]', True),
        ('{"n": ["kim", "lee"], "m": [1, 2]}', '{"n": ["lee"], "m": [2]}', False),
        ('{"n": "kim"}', '{"n": "kim", "n2": "kim"}', True),
        ("kim:lee:max\n", "max:kim\n", False),
        ("kim:lee:max\n", "max:zoe\n", True),
        ("name\nkim\nlee\n", "name\n  lee\n", False),
    ],
)
def test_records_are_known_by_their_least_parts(shown: str, other: str, *, is_new: bool) -> None:
    visible = Example({"x": shown}, "old\n")
    others = {f"v{n}": Example({"x": other}, f"new {n}\n") for n in range(3)}
    assert are_enough(visible, others, "lines") is is_new


def test_other_numbers_of_rows_are_no_news() -> None:
    visible = Example({"x": "a,1\nb,2\n"}, "  n\n0 a\n1 b\n")
    moved = {f"v{n}": Example({"x": f"zoe,{n}\na,1\nb,2\n"}, f"  n\n{n + 3} a\n{n + 4} b\n") for n in range(3)}
    assert not are_enough(visible, moved, "columns")
    told = {**moved, "other": Example({"x": "zoe,3\na,1\n"}, "  n\n0 zoe\n1 a\n")}
    assert are_enough(visible, told, "columns")


def test_another_place_in_a_list_is_no_news() -> None:
    visible = Example({"x": '["kim", "lee"]'}, '["kim", "lee"]\n')
    orders = ('["lee", "kim"]\n', '["lee"]\n', '["lee", "lee"]\n')
    assert not are_enough(visible, {f"v{n}": Example({"x": f'["lee", {n}]'}, text) for n, text in enumerate(orders)}, "json")


@pytest.mark.parametrize(("relation", "enough"), [("lines", True), ("columns", False)])
def test_what_the_relation_does_not_tell_apart_counts_once(relation: Relation, *, enough: bool) -> None:
    others = {f"v{n}": Example({"x.txt": f"zoe {n + 4}\n"}, f"ZOE{' ' * n} x\n") for n in range(3)}
    assert are_enough(VISIBLE, others, relation) is enough
