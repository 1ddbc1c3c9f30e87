"""The bench's arithmetic: quantiles, ratios in words, and samplers that take turns."""

from collections.abc import Sequence

import pytest

from tests.bench.measure import COLUMNS, Row, Sampler, interleaved, quantile


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_quantile_is_one_of_the_values(share: float, expected: float) -> None:
    assert quantile([float(n) for n in range(100, 0, -1)], share) == expected


def test_no_values_have_no_quantile() -> None:
    assert quantile([], 0.5) is None


@pytest.mark.parametrize(
    ("row", "ratio"),
    [
        (Row("action", "ms", [2.0], "floor", [1.0]), "2.0 x its"),
        (Row("action", "ms", [2.0], "peer", [50.0]), "25.0 x better"),
        (Row("rate", "1/s", [30.0], "peer", [10.0], more_is_better=True), "3.0 x better"),
        (Row("rate", "1/s", [10.0], "floor", [30.0], more_is_better=True), "3.0 x its"),
        (Row("action", "ms", [2.0], "peer: not installed"), "–"),
        (Row("action", "ms", beside="no box here"), "–"),
    ],
)
def test_a_ratio_says_whose_it_is(row: Row, ratio: str) -> None:
    cells = dict(zip(COLUMNS, row.cells(), strict=True))
    assert cells["ratio"] == ratio
    assert cells["beside"] == row.beside


def test_the_spread_of_a_rate_is_its_slow_end() -> None:
    slow_first = [float(n) for n in range(1, 101)]
    assert dict(zip(COLUMNS, Row("rate", "1/s", slow_first, more_is_better=True).cells(), strict=True))["p99"] == "1.00"
    assert dict(zip(COLUMNS, Row("action", "ms", slow_first).cells(), strict=True))["p99"] == "99.0"


async def test_samplers_take_turns_and_the_first_round_is_not_counted() -> None:
    order: list[str] = []

    def sampler(name: str) -> Sampler:
        async def sample(count: int) -> Sequence[float]:
            order.append(name)
            return [float(len(order))] * count

        return sample

    taken = await interleaved({"a": sampler("a"), "b": sampler("b")}, rounds=2, each=2)
    assert order == ["a", "b"] * 3
    assert taken == {"a": [3, 3, 5, 5], "b": [4, 4, 6, 6]}
