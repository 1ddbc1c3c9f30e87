"""Hosts' leases: who holds one, who is fenced, and who takes over; the same on every database."""

import asyncio
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, event

from envfarm.stores.episode_schema import EPISODES, GROUPS, LEASES, ROLLOUTS
from envfarm.stores.episodes import Claim
from envfarm.testing.factories import make_scored, make_spec
from tests.contract.stores.one_process import Stores, waiting_claim


async def test_a_lease_is_renewed_while_a_claim_waits_for_its_rollout(farm: Stores, opened: Callable[[], Engine]) -> None:
    async with waiting_claim(farm, opened) as (claiming, _):
        assert await farm.leases.renew(farm.lease, lease_s=600.0)
        assert not claiming.done()
    assert len(await claiming) == 2


async def test_a_host_does_not_take_over_from_itself(farm: Stores) -> None:
    await farm.ask()
    assert len(await farm.take()) == 2
    await farm.leases.lapse(farm.lease.host)
    assert await farm.leases.take_over_lapsed(but=farm.lease.host) == 0
    assert await farm.leases.renew(farm.lease, lease_s=600.0), "nobody had taken it"
    await farm.leases.lapse(farm.lease.host)
    assert await farm.leases.take_over_lapsed(but="another") == 1


async def test_a_host_that_is_late_is_fenced_and_another_goes_on(farm: Stores, opened: Callable[[], Engine]) -> None:
    await farm.ask()
    sleeper = await farm.leases.take("sleeper", lease_s=60.0)
    claims = await farm.take(lease=sleeper)
    await farm.leases.lapse("sleeper")
    assert sorted(await farm.leases.hosts()) == ["host", "sleeper"]
    other = Stores(opened())
    assert sum(await asyncio.gather(farm.leases.take_over_lapsed(), other.leases.take_over_lapsed())) == 1
    assert not await farm.leases.renew(sleeper, lease_s=60.0)
    assert (await farm.queue.claim(sleeper, [claims[0].spec.episode_id])).fenced
    assert set((await farm.queue.standing(claims)).values()) == {"another's"}
    again = await farm.take()
    assert [(c.spec, c.attempts, c.deaths) for c in again] == [(c.spec, 0, 1) for c in claims]
    assert all(new.epoch > old.epoch for new, old in zip(again, claims, strict=True))
    assert not await farm.queue.settle(claims[0], make_scored(0.0))
    await farm.play(*again)
    assert await farm.episodes.outcomes([c.spec.episode_id for c in claims]) == {c.spec.episode_id: make_scored(1.0) for c in claims}


async def test_no_epoch_of_a_host_is_given_twice(farm: Stores) -> None:
    leases = [await farm.leases.take("h", lease_s=60.0)]
    await farm.leases.lapse("h")
    await farm.leases.take_over_lapsed()
    leases.append(await farm.leases.take("h", lease_s=60.0))
    await farm.leases.drop(leases[-1])
    leases.append(await farm.leases.take("h", lease_s=60.0))
    assert len({lease.epoch for lease in leases}) == 3
    assert [await farm.leases.renew(lease, lease_s=60.0) for lease in leases] == [False, False, True]


async def test_a_lapsed_lease_takes_nothing_and_a_dropped_one_gives_back(farm: Stores) -> None:
    await farm.ask()
    lapsed = await farm.leases.take("lapsed", lease_s=0.0)
    assert (await farm.queue.claim(lapsed, [make_spec(0, run="r").episode_id])).fenced
    assert len(await farm.take()) == 2
    await farm.leases.drop(farm.lease)
    assert farm.count(EPISODES.c.state == "pending", EPISODES.c.attempts == 0) == 2


async def test_whoever_is_cancelled_while_a_lease_is_taken_holds_none(farm: Stores) -> None:
    loop, taking = asyncio.get_running_loop(), asyncio.create_task(farm.leases.take("h", lease_s=60.0))
    event.listen(farm.engine, "before_cursor_execute", lambda *_: loop.call_soon_threadsafe(taking.cancel), once=True)
    with pytest.raises(asyncio.CancelledError):
        await taking
    assert await farm.leases.hosts() == (farm.lease.host,)


async def test_what_hosts_offer_is_told_for_as_long_as_their_lease_stands(farm: Stores) -> None:
    await farm.leases.take("lapsed", lease_s=0.0, offer="3 cores")
    held = await farm.leases.take("held", lease_s=60.0, offer="4 cores")
    assert await farm.leases.offers() == ("4 cores",)
    await farm.leases.drop(held)
    assert await farm.leases.offers() == ()


async def test_a_host_that_ended_in_good_order_leaves_no_row_and_one_that_slept_its_next_epoch(farm: Stores) -> None:
    await farm.ask()
    late, orderly = [await farm.leases.take(name, lease_s=60.0, offer="4 cores") for name in ("late", "orderly")]
    assert len(await farm.take(lease=late)) == 2
    await farm.leases.drop(orderly)
    await farm.leases.lapse("late")
    assert await farm.leases.take_over_lapsed() == 1
    assert farm.count(EPISODES.c.state == "pending", EPISODES.c.deaths == 1) == 2
    assert farm.count(LEASES.c.host == "orderly") == 0
    assert not await farm.leases.renew(late, lease_s=60.0)
    assert (await farm.leases.take("late", lease_s=60.0)).epoch > late.epoch


async def test_of_many_hosts_at_once_each_episode_has_one(farm: Stores, opened: Callable[[], Engine]) -> None:
    for n in range(4):
        await farm.ask(f"r{n}", members=5)
    hosts = [Stores(opened(), await farm.leases.take(f"h{n}", lease_s=60.0)) for n in range(3)]

    async def work(host: Stores) -> list[Claim]:
        got: list[Claim] = []
        while claims := await host.take(4):
            got += claims
            await host.play(*claims)
        return got

    got = [claim.spec.episode_id for claims in await asyncio.gather(*map(work, hosts)) for claim in claims]
    assert len(got) == len(set(got)) == 20
    assert farm.count(GROUPS.c.state == "ready") == 4
    assert farm.count(ROLLOUTS.c.state == "done") == 4
