"""What hosts counted adds up, and no count falls whatever becomes of their leases; the same on every database."""

import asyncio
from collections.abc import Callable

from sqlalchemy import Engine, event, select

from envfarm.core.tally import TOTAL, Tally
from envfarm.stores.episode_schema import TALLIES
from envfarm.stores.tallies import ENDED, SqlTallies
from tests.contract.stores.one_process import Stores


def tally(played: float, boxes: float = 1.0, queue: float = 0.0) -> Tally:
    return Tally(counts={"played": {"{}": {TOTAL: played}}}, levels={"boxes": {"{}": boxes}}, views={"queue": {"{}": queue}})


async def seen(farm: Stores) -> tuple[float, float]:
    """How many were played in all, and how many boxes are alive."""
    whole = await SqlTallies(farm.engine).whole()
    return whole.counts.get("played", {}).get("{}", {}).get(TOTAL, 0.0), whole.levels.get("boxes", {}).get("{}", 0.0)


def hosts(farm: Stores) -> list[str]:
    with farm.engine.connect() as c:
        return list(c.scalars(select(TALLIES.c.host).order_by(TALLIES.c.host)))


async def test_living_hosts_and_ended_ones_add_up(farm: Stores) -> None:
    one, two, three = [await farm.leases.take(name, lease_s=60.0, offer="4 cores") for name in ("one", "two", "three")]
    assert await seen(farm) == (0.0, 0.0)
    for lease, played in ((one, 5.0), (two, 7.0), (three, 11.0), (one, 6.0)):
        assert await farm.leases.renew(lease, lease_s=60.0, tally=tally(played))
    assert (await seen(farm), hosts(farm)) == ((24.0, 3.0), ["one", "three", "two"])
    await farm.leases.lapse("one")
    assert await seen(farm) == (24.0, 2.0), "its boxes are nobody's, as soon as its lease is over"
    assert await farm.leases.take_over_lapsed() == 1
    assert (await seen(farm), hosts(farm)) == ((24.0, 2.0), [ENDED, "three", "two"])
    await farm.leases.drop(two, tally=tally(8.0))
    assert (await seen(farm), hosts(farm)) == ((25.0, 1.0), [ENDED, "three"])
    await farm.leases.lapse("three")
    assert await farm.leases.take_over_lapsed() == 1
    assert (await seen(farm), hosts(farm)) == ((25.0, 0.0), [ENDED])


async def test_what_a_host_says_whose_lease_was_taken_is_not_counted(farm: Stores) -> None:
    late = await farm.leases.take("late", lease_s=60.0)
    await farm.leases.renew(late, lease_s=60.0, tally=tally(5.0))
    await farm.leases.lapse("late")
    await farm.leases.take_over_lapsed()
    assert not await farm.leases.renew(late, lease_s=60.0, tally=tally(6.0))
    await farm.leases.drop(late, tally=tally(6.0))
    assert await seen(farm) == (5.0, 0.0)
    again = await farm.leases.take("late", lease_s=60.0)
    await farm.leases.renew(again, lease_s=60.0, tally=tally(1.0))
    assert await seen(farm) == (6.0, 1.0)
    await farm.leases.take("late", lease_s=60.0)
    assert (await seen(farm), hosts(farm)) == ((6.0, 0.0), [ENDED])


async def test_of_what_all_hosts_see_the_one_that_renewed_last_is_believed(farm: Stores) -> None:
    for name, queue in (("z", 1.0), ("a", 2.0), ("m", 3.0)):
        lease = await farm.leases.take(name, lease_s=60.0)
        await farm.leases.renew(lease, lease_s=60.0, tally=tally(1.0, queue=queue))
    assert (await SqlTallies(farm.engine).whole()).views == {"queue": {"{}": 3.0}}


async def test_no_count_falls_while_many_hosts_end_at_once(farm: Stores, opened: Callable[[], Engine]) -> None:
    names = [f"h{n}" for n in range(12)]
    for name in names:
        await farm.leases.renew(await farm.leases.take(name, lease_s=60.0), lease_s=60.0, tally=tally(10.0))
    others = [Stores(opened()) for _ in range(3)]
    ending = asyncio.Event()
    counts: list[float] = []

    async def watch() -> None:
        while not ending.is_set():
            counts.append((await seen(farm))[0])

    watching = asyncio.create_task(watch())
    for some in (names[:4], names[4:8], names[8:]):
        for name in some:
            await farm.leases.lapse(name)
        await asyncio.gather(*(other.leases.take_over_lapsed() for other in others))
    ending.set()
    await watching
    assert set(counts) == {120.0}
    assert (await seen(farm), hosts(farm)) == ((120.0, 0.0), [ENDED])


async def test_a_renewal_takes_two_statements_and_a_scrape_one(farm: Stores) -> None:
    said: list[str] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append(about[2].split(None, 1)[0]))
    await farm.leases.renew(farm.lease, lease_s=60.0, tally=tally(1.0))
    await SqlTallies(farm.engine).whole()
    assert [verb for verb in said if verb != "BEGIN"] == ["UPDATE", "INSERT", "SELECT"]
    assert hosts(farm) == [farm.lease.host]
