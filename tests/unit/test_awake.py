"""A limit that a pause of this process does not use up. A pause is a callback that blocks the loop."""

import asyncio
import time

import pytest

from envfarm.core.awake import LATE_S, awake_timeout

PAUSE_S = LATE_S + 0.4


async def test_who_does_not_answer_in_time_is_late() -> None:
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.01):
            await asyncio.Event().wait()


async def test_nothing_is_left_of_a_limit_that_was_kept() -> None:
    async with awake_timeout(0.01):
        pass
    await asyncio.sleep(0.05)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_another_cancellation_is_no_time_out() -> None:
    async def wait() -> None:
        async with awake_timeout(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_came_in_a_pause_is_taken() -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    loop.call_later(0.01, time.sleep, PAUSE_S)
    loop.call_later(0.05, lambda: loop.call_later(0.05, answer.set_result, "heard"))  # some turns of the loop after the pause
    async with awake_timeout(0.1):
        assert await answer == "heard"


async def test_an_answer_in_the_very_turn_in_which_the_time_is_over_is_taken() -> None:
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    over_at = loop.time() + 0.05
    loop.call_at(over_at - 0.02, time.sleep, 0.05)
    loop.call_at(over_at - 0.01, answer.set_result, "heard")
    async with awake_timeout(0.05):
        assert await answer == "heard"


async def test_a_pause_is_not_a_way_never_to_be_late() -> None:
    asyncio.get_running_loop().call_later(0.01, time.sleep, PAUSE_S)
    with pytest.raises(TimeoutError):
        async with awake_timeout(0.1):
            await asyncio.Event().wait()
