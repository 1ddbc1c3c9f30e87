"""A box that is closed through its meter."""

import asyncio

import pytest

from envfarm.core.observing import UNOBSERVED
from envfarm.core.sandbox import BoxStats, SandboxSpec
from envfarm.core.usage import Bill
from envfarm.episodes.box_meter import BoxMeter
from envfarm.testing.factories import make_environment
from envfarm.testing.scripted_box import ScriptedBox


class SlowToTell(ScriptedBox):
    asked: asyncio.Event

    async def stats(self) -> BoxStats:
        self._enter("stats")
        self.asked.set()
        await asyncio.Event().wait()
        return BoxStats()


async def test_a_box_is_closed_and_billed_though_the_closing_is_called_off_while_it_is_asked_what_it_used() -> None:
    spec, bill = SandboxSpec(environment=make_environment()), Bill()
    box = SlowToTell(spec)
    box.asked = asyncio.Event()
    closing = asyncio.create_task(BoxMeter(spec, "grading", bill, UNOBSERVED).close(box))
    await box.asked.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert box.calls == ["stats", "close"]
    assert bill.total.boxes == 1
