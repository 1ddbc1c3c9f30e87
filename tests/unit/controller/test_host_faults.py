"""What becomes of episodes when a host, its policy or an agent misbehaves, and of a quota when there are several hosts."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core.action import Decision
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import PolicyError
from envfarm.core.observing import Fact, Span, SpanName, Unobserved
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import Quota
from envfarm.core.task import Limits
from envfarm.core.trajectory import Step
from envfarm.core.validation import ValidationReport
from envfarm.scheduling.admission import Admission, Amount
from envfarm.stores.catalogue import Origin
from envfarm.stores.rollout_queue import Share
from envfarm.testing.factories import make_environment, make_scored, make_task, passed_gates
from envfarm.testing.small_service import A, SmallService, rewards
from tests.unit.controller.trainers_side import TASKS, Gate, asked, collected

pytestmark = pytest.mark.timeout(60)


class Garbled:
    """The policy of an endpoint whose error holds half of a surrogate pair, as JSON can say it."""

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        del instruction, history
        raise PolicyError("refused: \ud800 in messages")


async def test_a_failure_that_is_no_text_costs_the_episode_no_end(farm: SmallService) -> None:
    farm.policy = lambda _: Garbled()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0], members=1))
        (group,) = await collected(farm, 1)
    assert group.result.members[0].outcome == Invalid("policy", retryable=True, detail="refused: \\ud800 in messages")
    assert len(farm.played) == 3, "it was tried again"


async def test_a_file_whose_name_is_no_text_buys_no_retry(tmp_path: Path) -> None:
    judged = make_scored(0.0)
    hostile = replace(judged, integrity=replace(judged.integrity, dropped=(".git/\udcff",)))
    farm = SmallService(tmp_path, grader=rewards(hostile))
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0], members=1))
        (group,) = await collected(farm, 1)
    (member,) = group.result.members
    assert member.outcome == replace(judged, integrity=replace(judged.integrity, dropped=(".git/\\udcff",)))
    assert (await farm.trajectories.read(member.episode)).end is not None, "the record has its end"
    assert len(farm.played) == 1
    await farm.close()


class Breaks(Unobserved):
    """An observer with a fault, told of the first attempt."""

    told = 0

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:
        if name == "episode":
            self.told += 1
            if self.told == 1:
                raise RuntimeError("a fault of the farm's own")
        with super().span(name, within=within, **facts) as span:
            yield span


async def test_a_fault_of_the_host_itself_is_tried_again_and_leaves_nothing_running(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, observer=Breaks())
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0], members=1))
        (group,) = await collected(farm, 1)
    assert group.result.complete
    await farm.close()


async def test_what_stands_as_played_by_a_host_that_does_not_play_it_is_tried_again(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, lease_s=0.3, share=Share(never=frozenset({"scripted"})))
    await farm.open()
    async with farm.playing():
        request = asked(TASKS[0], members=1).model_copy(update={"policy": PolicySpec(name="scripted")})
        rollout = await farm.service.submit(A, request)
        (waiting,) = await farm.queue.waiting(each=1)
        # The host tells nobody of its lease, and it may be late.
        while (lease := farm.host._lease) is None or not (await farm.queue.claim(lease, [waiting.episode])).claims:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while True:
            ((_, row),) = await farm.rollouts.episodes(A, rollout.id, after=-1, limit=1)
            if row.state == "pending":
                break
    assert (row.attempts, row.owner) == (1, None)
    await farm.close()


async def test_a_tenants_live_quota_is_the_farms_and_not_each_hosts(farm: SmallService, tmp_path: Path) -> None:
    await farm.access.add_tenant(A, Quota(live_episodes=2))
    gate, other = Gate(), SmallService(tmp_path)
    farm.policy = other.policy = lambda _: gate
    async with farm.playing():
        await farm.service.submit(A, asked())
        await gate.reached.wait()
        async with other.playing():
            while other.host.last is None:  # noqa: ASYNC110 - decisions ring no bell
                await asyncio.sleep(0.01)
            assert set(other.host.last.held.values()) == {"quota"}
            assert await farm.queue.live({A}) == {A: 2}
            gate.open.set()
            await collected(farm, 3)
    await other.close()


SMALL = Amount(memory_mib=100, disk_mib=10_000, cores=8, episodes=9)


async def test_a_small_host_leaves_alone_what_a_larger_one_can_play(tmp_path: Path) -> None:
    gate = Gate()
    large = SmallService(tmp_path, policy=lambda _: gate, capacity=Amount(memory_mib=3000, disk_mib=10_000, cores=8, episodes=9))
    await large.open()
    small = SmallService(tmp_path, capacity=SMALL, lease_s=1.5, patience_s=0.0)
    async with large.playing():
        await large.service.submit(A, asked(TASKS[0], members=4))
        await gate.reached.wait()
        with closing(sqlite3.connect(tmp_path / "farm.db", timeout=30)) as database:
            database.execute("""UPDATE leases SET offer = replace(offer, '{"capacity"', '{"of a newer release": 1, "capacity"')""")
            database.commit()
        async with small.playing():
            looks: list[Admission] = []
            while len(looks) < 4:  # one a beat
                if (last := small.host.last) is not None and not (looks and last is looks[-1]):
                    looks.append(last)
                    assert last.too_large
                await asyncio.sleep(0.01)
            gate.open.set()
            (group,) = await collected(large, 1)
    assert group.result.complete
    assert small.played == []
    for service in (small, large):
        await service.close()


async def test_what_no_host_that_may_play_it_is_large_enough_for_is_invalid_and_both_figures_are_told(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, capacity=SMALL, lease_s=1.5, patience_s=0.0)
    await farm.open()
    trainers = SmallService(tmp_path, share=Share(only=frozenset({"trainer"})))
    async with trainers.playing(), farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        (group,) = await collected(farm, 1)
    detail = "needs more than this farm has: memory_mib=2048, of which its largest host has 100"
    assert [m.outcome for m in group.result.members] == [Invalid("farm", retryable=False, detail=detail)] * 2
    assert farm.played == []
    for service in (trainers, farm):
        await service.close()


async def test_what_fits_is_played_however_much_waits_before_it_that_does_not(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, capacity=Amount(memory_mib=3000, disk_mib=10_000, cores=8, episodes=9))
    await farm.open()
    heavy = make_task(name="made-up/heavy", limits=Limits(memory_mib=4000))
    report = ValidationReport(
        task=heavy.digest, environment=make_environment(), provider="local", created_at=heavy.created_at, gates=passed_gates()
    )
    await farm.catalogue.add_validated(heavy, report, origin=Origin(repository="made-up/heavy"))
    await farm.service.submit(A, asked(heavy.name, members=40))
    async with farm.playing():
        light = await farm.service.submit(A, asked(TASKS[0]))
        (group,) = await collected(farm, 1)
    assert group.result.rollout == light.id
    assert len(await farm.queue.waiting(each=99)) == 40, "what is too large waits for a larger host"
    await farm.close()
