"""Numbers of several processes that add up, whatever the order."""

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.tally import MOST_SERIES, NOTHING, OTHER, SUM, TOTAL, Tally, in_steps, labelled

MINE = labelled({"tenant": "a"})


def seconds(amount: float, labels: str = MINE) -> Tally:
    return Tally(counts={"s": {labels: {SUM: in_steps(amount), "0.5": 1.0}}})


def total(tally: Tally) -> float:
    return sum(parts[SUM] for parts in tally.counts["s"].values())


@given(st.lists(st.floats(0, 1e9), min_size=3, max_size=5))
def test_sums_are_the_same_in_every_order(amounts: list[float]) -> None:
    sums = set()
    for order in permutations(amounts):
        whole = NOTHING
        for amount in order:
            whole = whole.plus(seconds(amount))
        sums.add(total(whole))
    assert len(sums) == 1


@given(st.floats(0, 1e12), st.floats(0, 10))
def test_what_rises_does_not_fall_by_being_cut(amount: float, more: float) -> None:
    assert in_steps(amount) <= amount
    assert in_steps(amount) <= in_steps(amount + more)


def test_what_came_since_and_what_was_before_are_the_whole() -> None:
    before = seconds(0.3)
    whole = before.plus(seconds(0.7)).plus(seconds(5.0, labelled({"tenant": "b"})))
    assert before.plus(whole.since(before)) == whole
    assert whole.since(whole) == NOTHING
    assert whole.since(NOTHING) == whole


def test_levels_add_up_and_of_what_all_see_the_newest_stands() -> None:
    one, two = (Tally(levels={"boxes": {MINE: n}}, views={"queue": {MINE: 10 * n}}) for n in (1.0, 2.0))
    assert one.plus(two) == Tally(levels={"boxes": {MINE: 3.0}}, views={"queue": {MINE: 20.0}})
    assert one.plus(two).ended == NOTHING
    assert one.plus(seconds(1.0)).views == {"queue": {MINE: 10.0}}, "who never saw it says nothing of it"


def test_more_series_than_may_be_are_counted_together_and_none_is_lost() -> None:
    many = [seconds(1.0, labelled({"tenant": f"t{n}"})) for n in range(MOST_SERIES + 30)]
    whole = NOTHING
    for one in many:
        whole = whole.plus(one)
    assert len(whole.counts["s"]) == MOST_SERIES + 1
    assert whole.counts["s"][labelled({"tenant": OTHER})] == {SUM: 30.0, "0.5": 30.0}
    again = Tally(counts={"c": {MINE: {TOTAL: 1.0}}}).plus(whole).plus(many[-1])
    assert total(again) == MOST_SERIES + 31
