"""What attempts used: a row each, exactly once, whatever becomes of its host; the same on every database."""

import pytest
from sqlalchemy import select, update

from envfarm.core.ids import RunId, TenantId
from envfarm.core.usage import Grant, Usage, UsageLine
from envfarm.stores.episode_schema import ATTEMPTS, LEASES
from envfarm.stores.episodes import Claim
from envfarm.stores.sql import db_now
from envfarm.stores.usage import SqlUsage, UsageAsked
from envfarm.testing.factories import make_scored, make_spec
from tests.contract.stores.one_process import DOWN, A, B, Stores

USED = Usage(boxes=2, box_s=8.0, cpu_used_s=1.0, cpu_granted_s=4.0, memory_granted_gib_s=16.0, memory_peak_gib_s=2.0, pulled_bytes=3 << 31)
GRANT = Grant(cpus=2.0, memory_mib=512)


async def claimed(farm: Stores, many: int = 1, **asked: object) -> list[Claim]:
    await farm.ask(members=many, **asked)  # type: ignore[arg-type]
    waiting = [w.episode for w in await farm.queue.waiting(each=many)]
    return list((await farm.queue.claim(farm.lease, waiting, dict.fromkeys(waiting, GRANT))).claims)


def asleep(farm: Stores, host: str, *, played_s: float, dead_for_s: float) -> None:
    """A host that held its lease for so long, and whose lease ended so long ago."""
    with farm.engine.begin() as c:
        ended = c.execute(select(db_now())).scalar_one() - dead_for_s
        c.execute(update(ATTEMPTS).where(ATTEMPTS.c.host == host).values(started=ended - played_s))
        c.execute(update(LEASES).where(LEASES.c.host == host).values(until=ended))


async def test_every_attempt_is_billed_once_with_its_end(farm: Stores) -> None:
    (first,) = await claimed(farm)
    usage = SqlUsage(farm.engine)
    assert await usage.lines(UsageAsked()) == (), "what runs is not billed yet"
    assert await farm.queue.put_back(first, detail="down", attempts=1, used=USED)
    (again,) = await farm.take()
    assert await farm.queue.settle(again, make_scored(1.0), USED)
    for late in (first, again):
        await farm.queue.settle(late, DOWN, USED.plus(USED))
    (line,) = await usage.lines(UsageAsked(by="episode"))
    assert (line.attempts, line.estimated, line.usage) == (2, 0, USED.plus(USED)), "said twice, it counts once"
    assert (line.tenant, line.rollout, line.episode, line.idle_share) == (A, "r", first.spec.episode_id, 0.75)


async def test_what_is_called_off_is_billed_all_the_same(farm: Stores) -> None:
    (claim,) = await claimed(farm)
    await farm.rollouts.cancel(A, RunId("r"), "enough")
    assert not await farm.queue.settle(claim, make_scored(1.0), USED)
    (line,) = await SqlUsage(farm.engine).lines(UsageAsked())
    assert (line.attempts, line.usage) == (1, USED)


async def test_attempts_of_a_dead_host_are_estimated_until_its_lease_ended(farm: Stores) -> None:
    claims = await claimed(farm, 2)
    await farm.rollouts.cancel(A, RunId("r"), "enough")  # what was called off has no host any more, and had a box all the same
    asleep(farm, "host", played_s=100.0, dead_for_s=5000.0)
    await farm.leases.take_over_lapsed()
    await farm.leases.take_over_lapsed()
    (line,) = await SqlUsage(farm.engine).lines(UsageAsked())
    assert (line.attempts, line.estimated, line.usage.boxes, line.usage.unmeasured) == (2, 2, 2, 2)
    assert line.usage.box_s == pytest.approx(200.0, abs=0.01)
    assert line.usage.cpu_granted_s == pytest.approx(400.0, abs=0.01)
    assert line.usage.memory_granted_gib_s == pytest.approx(100.0, abs=0.01)
    assert (line.usage.cpu_used_s, line.idle_share) == (0.0, 1.0)
    assert not await farm.queue.settle(claims[0], make_scored(1.0), USED)
    (line,) = await SqlUsage(farm.engine).lines(UsageAsked())
    assert (line.attempts, line.estimated) == (2, 1), "who only slept says what it really was"
    assert line.usage.cpu_used_s == 1.0


@pytest.mark.parametrize("end", ["retaken", "dropped", "known dead"])
async def test_whatever_ends_a_hosts_hold_closes_what_it_played(farm: Stores, end: str) -> None:
    await claimed(farm)
    if end == "retaken":
        await farm.leases.take("host", lease_s=60.0)
    elif end == "dropped":
        await farm.leases.drop(farm.lease)
    else:
        await farm.leases.lapse("host")
        await farm.leases.take_over_lapsed()
    (line,) = await SqlUsage(farm.engine).lines(UsageAsked())
    assert (line.attempts, line.estimated) == (1, 1)
    assert 0.0 <= line.usage.box_s < 60.0


async def test_lines_are_by_tenant_rollout_and_episode_and_page_without_loss(farm: Stores) -> None:
    for name, tenant in (("one", A), ("two", A), ("three", B)):
        for claim in await claimed(farm, 3, name=name, tenant=tenant):
            await farm.queue.settle(claim, make_scored(1.0), USED)
    usage = SqlUsage(farm.engine)
    assert [(x.tenant, x.rollout, x.attempts) for x in await usage.lines(UsageAsked(by="tenant"))] == [("a", None, 6), ("b", None, 3)]
    assert [(x.rollout, x.attempts) for x in await usage.lines(UsageAsked(tenant=A))] == [("one", 3), ("two", 3)]
    assert await usage.lines(UsageAsked(tenant=A, rollout="three")) == ()
    whole = await usage.lines(UsageAsked(by="episode"))
    seen: list[UsageLine] = []
    after: tuple[str, ...] = ()
    while some := await usage.lines(UsageAsked(by="episode", limit=2, after=after)):
        seen += some
        after = (some[-1].tenant, str(some[-1].rollout), str(some[-1].episode))
    assert tuple(seen) == whole
    assert len(whole) == 9


async def test_an_attempt_lies_in_one_window_alone_and_is_kept_for_its_own_time(farm: Stores) -> None:
    (claim,) = await claimed(farm)
    await farm.queue.settle(claim, make_scored(1.0), USED)
    usage = SqlUsage(farm.engine)
    with farm.engine.connect() as c:
        ended = c.scalar(select(ATTEMPTS.c.ended)) or 0.0
    assert len(await usage.lines(UsageAsked(since=ended))) == 1
    assert await usage.lines(UsageAsked(until=ended)) == ()
    assert len(await usage.lines(UsageAsked(since=ended, until=ended + 1e-3))) == 1
    (group,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    await farm.results.acknowledge(A, [group.lease])
    gone = await farm.results.over(older_s=0.0)
    assert len(gone) == 1
    await farm.results.forget(gone, older_s=0.0)
    assert len(await usage.lines(UsageAsked())) == 1, "bills outlive what they are for"
    await farm.results.forget_bills(older_s=-60.0)
    assert await usage.lines(UsageAsked()) == ()


async def test_a_pools_attempts_are_billed_under_one_epoch(farm: Stores) -> None:
    spec = make_spec(0, run="pool")
    await farm.episodes.add_specs([spec])
    claim = await farm.episodes.claim(spec.run_id, "me")
    assert claim is not None
    for attempts in (0, 0, 1):
        await farm.episodes.bill(claim, USED, attempts=attempts)
    (line,) = await SqlUsage(farm.engine).lines(UsageAsked(tenant=TenantId("")))
    assert (line.rollout, line.attempts, line.usage) == ("pool", 2, USED.plus(USED))
