"""How many hosts there are: up at once, down after a calm, and then to what the calm has needed."""

import pytest
from pydantic import ValidationError

from envfarm.scheduling.host_count import HostCount, Scale, host_count

SCALE = Scale(least=1, most=5, per_host=10, calm_s=60.0)


@pytest.mark.parametrize(("episodes", "wanted"), [(0, 1), (1, 1), (10, 1), (11, 2), (49, 5), (1_000, 5)])
def test_up_at_once_and_within_bounds(episodes: int, wanted: int) -> None:
    assert host_count(episodes, 0, SCALE, calm=None, now_s=0.0).wanted == wanted


def test_down_after_a_calm_to_the_most_that_it_has_seen() -> None:
    first = host_count(0, 5, SCALE, calm=None, now_s=100.0)
    busy = host_count(25, 5, SCALE, calm=first.calm, now_s=130.0)
    assert (first.wanted, busy.wanted) == (5, 5)
    assert host_count(0, 5, SCALE, calm=busy.calm, now_s=159.9).wanted == 5
    assert host_count(0, 5, SCALE, calm=busy.calm, now_s=160.0) == HostCount(wanted=3)


def test_a_busy_moment_ends_the_calm() -> None:
    first = host_count(0, 3, SCALE, calm=None, now_s=0.0)
    busy = host_count(30, 3, SCALE, calm=first.calm, now_s=59.0)
    assert busy == HostCount(wanted=3)
    assert host_count(0, 3, SCALE, calm=busy.calm, now_s=61.0).wanted == 3


def test_hosts_that_died_are_replaced_and_too_many_go() -> None:
    fixed = Scale(least=3, most=3, per_host=1)
    assert host_count(0, 1, fixed, calm=None, now_s=0.0).wanted == 3
    assert host_count(0, 7, fixed, calm=None, now_s=0.0).wanted == 3


def test_bounds_that_cannot_both_be_are_refused() -> None:
    with pytest.raises(ValidationError, match="3, exceeds the most, 2"):
        Scale(least=3, most=2, per_host=1)
