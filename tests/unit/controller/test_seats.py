"""A trainer's seat: whoever calls stays, whoever does not has left."""

import asyncio

import pytest

from envfarm.controller.bells import Bells
from envfarm.controller.seats import Seat
from envfarm.core.action import Bash, Finish
from envfarm.core.episode import Budgets
from envfarm.core.errors import Conflict, Unattended
from envfarm.testing.factories import make_spec

IDLE_S = 0.05


def seat() -> Seat:
    spec = make_spec(0).model_copy(update={"budgets": Budgets(idle_s=IDLE_S)})
    return Seat(spec, Bells())


async def test_whoever_does_not_call_has_left() -> None:
    left = seat()
    with pytest.raises(Unattended):
        await left.next_action("Make `add` add.", ())
    assert not left.asked
    with pytest.raises(Conflict):
        left.decide("s1", Finish(), None)


async def test_whoever_calls_is_waited_for() -> None:
    mine = seat()
    asked = asyncio.create_task(mine.next_action("Make `add` add.", ()))
    until = asyncio.get_running_loop().time() + 4 * IDLE_S
    while asyncio.get_running_loop().time() < until:
        mine.called()
        await asyncio.sleep(0)
    assert not asked.done()
    mine.decide("s1", Bash(command="ls"), None)
    choice = await asked
    assert (choice.action, choice.call and choice.call.call_id) == (Bash(command="ls"), "s1")


async def test_a_seat_whose_episode_is_called_off_waits_for_nobody() -> None:
    mine = seat()
    asked = asyncio.create_task(mine.next_action("Make `add` add.", ()))
    await asyncio.sleep(0)
    assert mine.asked
    asked.cancel()
    await asyncio.wait({asked})
    assert not mine.asked
