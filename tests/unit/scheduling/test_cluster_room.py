"""Few boxes wait in a full cluster, and a cluster with room is soon asked for many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from envfarm.scheduling.cluster_room import LEAST, Window


def played(window: Window, room: int, rounds: int) -> tuple[Window, int]:
    """A cluster with room for so many more: each round asks for as many as the window lets. The window, and the most that ever waited."""
    waiting = most_waiting = 0
    for _ in range(rounds):
        asked = max(window.size - waiting, 0)
        placed = min(room, waiting + asked)
        unplaced = max(asked - max(placed - waiting, 0), 0)
        room -= placed
        waiting = waiting + asked - placed
        for _ in range(placed):
            window = window.after(placed=True)
        for _ in range(unplaced):
            window = window.after(placed=False)
        most_waiting = max(most_waiting, waiting)
    return window, most_waiting


def test_a_full_cluster_is_asked_for_few() -> None:
    window, _ = played(Window.opened(64), room=0, rounds=1)
    assert window.size == LEAST
    _, waiting = played(window, room=0, rounds=100)
    assert waiting <= LEAST


def test_a_cluster_that_has_grown_is_soon_filled() -> None:
    window = Window(size=LEAST, most=64)
    rounds = 0
    while window.size < 64:
        for _ in range(window.size):
            window = window.after(placed=True)
        rounds += 1
    assert rounds <= 6


@given(st.integers(1, 100), st.lists(st.booleans(), max_size=300))
def test_it_never_closes_and_never_goes_beyond_its_bound(most: int, seen: list[bool]) -> None:
    window = Window.opened(most)
    for placed in seen:
        window = window.after(placed=placed)
        assert min(LEAST, most) <= window.size <= most


def test_a_window_beyond_its_bound_is_refused() -> None:
    with pytest.raises(ValidationError, match="exceeds its maximum 2"):
        Window(size=3, most=2)
