"""What hosts do beside each other: which boxes each foresees, and who clears up after a dead one."""

import asyncio
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.controller.host_sizes import Offer
from envfarm.core.ids import TaskDigest
from envfarm.scheduling.admission import Amount
from envfarm.stores.rollout_queue import Share
from envfarm.testing.scripted_box import LastingProvider
from envfarm.testing.small_service import A, SmallService, echo
from tests.unit.controller.trainers_side import TASKS, Gate, asked, collected

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("others", [0, 1, 2])
async def test_a_full_host_foresees_boxes_to_grade_in_and_then_its_part_of_what_waits(tmp_path: Path, others: int) -> None:
    told: list[list[TaskDigest]] = []
    gate = Gate()
    one = Amount(memory_mib=5000, disk_mib=10_000, cores=8, episodes=1)
    farm = SmallService(tmp_path, capacity=one, foresee=lambda tasks: told.append(list(tasks)), policy=lambda _: gate)
    await farm.open()
    for n in range(others):
        await farm.leases.take(f"another {n}", lease_s=600.0, offer=Offer(capacity=one, share=farm.share).model_dump_json())
    await farm.leases.take("of another share", lease_s=600.0, offer=Offer(capacity=one, share=Share(only=frozenset())).model_dump_json())
    digests = {row.name: row.digest for row in await farm.catalogue.rows()}
    await farm.service.submit(A, asked(TASKS[0], members=3))
    async with farm.playing():
        await gate.reached.wait()
        await farm.service.submit(A, asked(TASKS[1], members=4))
        most = 1 + math.ceil(6 / (1 + others))
        async with asyncio.timeout(30):
            while not any(len(each) == most for each in told):  # noqa: ASYNC110 - it says it when it has looked
                await asyncio.sleep(0.01)
        gate.open.set()
        await collected(farm, 2)
    played, *waiting = next(each for each in told if len(each) == most)
    assert played == digests[TASKS[0]]
    assert Counter(waiting) <= Counter({digests[TASKS[0]]: 2, digests[TASKS[1]]: 4})
    assert max(map(len, told)) == most
    await farm.close()


@pytest.mark.parametrize(
    ("told", "left"),
    [((True,), 1), ((False,), 0), ((False, True), 0), ((True, False), 0)],
    ids=["others go on", "none", "none, then some", "some, then none"],
)
async def test_boxes_are_left_to_other_hosts_where_there_are_any(tmp_path: Path, told: tuple[bool, ...], left: int) -> None:
    provider, gate = LastingProvider(answer=echo), Gate()
    farm = SmallService(tmp_path, provider=provider, policy=lambda _: gate)
    await farm.open()
    await farm.service.submit(A, asked(TASKS[0], members=1))
    async with farm.playing():
        await gate.reached.wait()
        for others in told:
            farm.host.drain(grace_s=0.0, others_go_on=others)
        async with asyncio.timeout(30):
            while farm.host.view.live:  # noqa: ASYNC110 - it is asked again
                await asyncio.sleep(0.01)
    assert len(provider.open_boxes) == len(provider.left) == left
    await farm.close()


@pytest.mark.parametrize("dies", [True, False], ids=["it died", "it ended in good order"])
async def test_a_host_clears_up_after_another_one_that_played_nothing(tmp_path: Path, dies: object) -> None:
    """It may have held boxes that were made ahead, or left some that nobody adopts."""
    farm = SmallService(tmp_path, lease_s=0.3)
    await farm.open()
    looks = asyncio.Semaphore(0)

    async def collect() -> int:
        looks.release()
        return 0

    farm.host._parts = replace(farm.host._parts, collect=collect)
    other = await farm.leases.take("other", lease_s=600.0, offer=Offer(capacity=farm.capacity, share=farm.share).model_dump_json())
    async with farm.playing(), asyncio.timeout(20):  # the next look without a death comes after half a minute
        await looks.acquire()
        await looks.acquire()
        assert looks.locked(), "no look that nobody died for"
        while farm.host._sizes.hosts < 2:  # noqa: ASYNC110 - a beat tells nobody
            await asyncio.sleep(0.01)
        await (farm.leases.lapse("other") if dies else farm.leases.drop(other))
        await looks.acquire()
        assert "other" not in await farm.leases.hosts()
    await farm.close()
