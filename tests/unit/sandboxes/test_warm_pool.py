"""The warm pool makes as many as were foreseen, hands each out once, and leaves nothing."""

import asyncio

import pytest

from envfarm.core.errors import SandboxError
from envfarm.sandboxes import warm_pool
from envfarm.sandboxes.warm_pool import WarmPool


class Factory:
    """Makes blanks that are numbers; each creation waits for the gate."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.made: list[str] = []
        self.ended: list[str] = []
        self.dead: set[str] = set()
        self.broken = False

    async def make(self, key: str) -> str:
        name = f"{key}{len(self.made)}"
        self.made.append(name)
        await self.gate.wait()
        if self.broken:
            raise SandboxError("no room")
        return name

    async def end(self, blank: str) -> None:
        self.ended.append(blank)

    def pool(self, size: int = 4, kept_s: float = warm_pool.KEPT_S) -> WarmPool[str, str]:
        return WarmPool(self.make, self.end, lives=lambda blank: blank not in self.dead, size=size, kept_s=kept_s)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_as_many_are_made_as_were_foreseen_and_no_more_than_it_holds() -> None:
    factory = Factory()
    pool = factory.pool(size=3)
    for _ in range(3):
        pool.foresee(["a", "b", "a", "a", "a"])
        await settled()
    assert sorted(factory.made) == ["a0", "a1", "b2"]
    assert {await pool.take("a"), await pool.take("a")} == {"a0", "a1"}
    assert await pool.take("a") is None
    await pool.aclose()
    assert factory.ended == ["b2"]


async def test_what_was_taken_is_made_again_only_when_it_is_foreseen_again() -> None:
    factory = Factory()
    pool = factory.pool()
    pool.foresee(["a"])
    await settled()
    assert await pool.take("a") == "a0"
    await settled()
    assert factory.made == ["a0"]
    pool.foresee(["a"])
    await settled()
    assert await pool.take("a") == "a1"
    await pool.aclose()


async def test_takers_wait_for_what_is_being_made_and_no_more_of_them_than_that() -> None:
    factory = Factory()
    factory.gate.clear()
    pool = factory.pool()
    pool.foresee(["a", "a"])
    takers = [asyncio.create_task(pool.take("a")) for _ in range(3)]
    await settled()
    assert [taker.done() for taker in takers] == [False, False, True]
    factory.gate.set()
    assert sorted(filter(None, await asyncio.gather(*takers))) == ["a0", "a1"]
    await pool.aclose()
    assert factory.ended == []


async def test_a_taker_that_is_cancelled_loses_nothing() -> None:
    factory = Factory()
    factory.gate.clear()
    pool = factory.pool()
    pool.foresee(["a"])
    taker = asyncio.create_task(pool.take("a"))
    await settled()
    taker.cancel()
    factory.gate.set()
    await settled()
    assert await pool.take("a") == "a0"
    await pool.aclose()


async def test_a_creation_that_fails_sends_its_taker_away_and_is_not_tried_at_once() -> None:
    factory = Factory()
    factory.broken = True
    factory.gate.clear()
    pool = factory.pool()
    pool.foresee(["a"])
    taker = asyncio.create_task(pool.take("a"))
    await settled()
    factory.gate.set()
    assert await taker is None
    pool.foresee(["a"])
    await settled()
    assert factory.made == ["a0"]
    await pool.aclose()


async def test_the_dead_are_not_handed_out_and_none_is_made_in_their_room_for_a_while() -> None:
    factory = Factory()
    pool = factory.pool()
    pool.foresee(["a", "a", "b"])
    await settled()
    factory.dead = {"a0", "b2"}
    assert await pool.take("a") == "a1"
    pool.foresee(["a", "b"])
    await settled()
    assert (factory.made, factory.ended) == (["a0", "a1", "b2"], ["a0", "b2"])
    assert await pool.take("b") is None
    await pool.aclose()


async def test_what_has_waited_for_long_is_replaced_however_wanted_it_is() -> None:
    factory = Factory()
    pool = WarmPool[str, str](factory.make, factory.end, lives=lambda _: True, size=4, longest_s=-1.0)
    for _ in range(2):
        pool.foresee(["a"])
        await settled()
    assert (factory.made, factory.ended) == (["a0", "a1"], ["a0"])
    await pool.aclose()


async def test_nothing_is_remembered_of_shapes_that_nobody_asks_for_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = Factory()
    pool = factory.pool(kept_s=-1.0)
    for shape in ("a", "b"):
        factory.broken = shape == "b"
        pool.foresee([shape])
        taker = asyncio.create_task(pool.take(shape))
        await settled()
        await taker
    monkeypatch.setattr(warm_pool, "AFTER_FAILURE_S", -1.0)
    pool.foresee([])
    assert [*pool._idle, *pool._making, *pool._takers, *pool._failed_at] == []
    await pool.aclose()


async def test_what_nobody_wants_makes_room_for_what_somebody_does() -> None:
    factory = Factory()
    pool = factory.pool(size=2)
    pool.foresee(["a", "a"])
    await settled()
    pool.foresee(["b"])
    await settled()
    assert factory.ended == ["a0"]
    assert await pool.take("b") == "b2"
    assert await pool.take("a") == "a1"
    await pool.aclose()


async def test_what_nobody_wants_is_ended_after_a_while() -> None:
    factory = Factory()
    patient, hasty = factory.pool(), factory.pool(kept_s=-1.0)
    for pool in (patient, hasty):
        pool.foresee(["a"])
        await settled()
        pool.foresee([])
        await settled()
    assert factory.ended == ["a1"]
    await patient.aclose()
    await hasty.aclose()


async def test_closing_ends_what_is_ready_and_what_is_being_made() -> None:
    factory = Factory()
    pool = factory.pool()
    pool.foresee(["a"])
    await settled()
    factory.gate.clear()
    pool.foresee(["a", "b"])
    taker = asyncio.create_task(pool.take("b"))
    await settled()
    await pool.aclose()
    assert await taker is None
    assert factory.ended == ["a0"]
    pool.foresee(["c"])
    await settled()
    assert factory.made == ["a0", "b1"]


async def test_it_gives_way_where_a_box_that_was_asked_for_finds_no_place() -> None:
    factory = Factory()
    pool = factory.pool()
    pool.foresee(["a", "a"])
    await settled()
    assert pool.give_way()
    pool.foresee(["a", "a", "b"])
    await settled()
    assert factory.ended == ["a0"]
    assert factory.made == ["a0", "a1"]
    assert pool.give_way()
    assert not pool.give_way()
    await pool.aclose()
