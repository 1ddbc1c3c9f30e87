"""Calls that are held open, and the end of all of them."""

import pytest

from envfarm.api.access import Waiting
from envfarm.api.problems import Stopping
from envfarm.core.ids import TenantId


async def test_a_service_that_stops_holds_no_further_call() -> None:
    waiting = Waiting(8)
    waiting.stop()
    with pytest.raises(Stopping):
        async with waiting.one(TenantId("a")):
            pass
