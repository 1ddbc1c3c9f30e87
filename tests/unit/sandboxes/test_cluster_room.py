"""The door for boxes in the making: how many are in, who waits, who is told."""

import asyncio

import pytest

from envfarm.core.errors import SandboxError
from envfarm.core.ids import BoxId
from envfarm.sandboxes.cluster_room import ClusterRoom


class Making:
    """Boxes in the making, each until it is told to end."""

    def __init__(self, room: ClusterRoom) -> None:
        self.room = room
        self.inside: set[str] = set()
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, *names: str) -> None:
        for name in names:
            self.ends[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._make(name))
        await settled()

    async def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        await settled()

    async def _make(self, name: str) -> None:
        async with self.room.making(BoxId(name)):
            self.inside.add(name)
            try:
                await self.ends[name].wait()
            finally:
                self.inside.discard(name)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_are_in_the_making_than_the_window_lets_and_the_rest_come_in_order() -> None:
    making = Making(ClusterRoom(2))
    await making.begin("a", "b", "c", "d")
    assert making.inside == {"a", "b"}
    await making.end("b")
    assert making.inside == {"a", "c"}
    await making.end("a", "c", "d")
    await asyncio.gather(*making.tasks.values())


async def test_where_boxes_find_no_place_few_are_let_in_until_they_do() -> None:
    room = ClusterRoom(8)
    making = Making(room)
    await making.begin(*"abcdefgh")
    for box in "bcdefgh":
        assert room.refused(BoxId(box))
        assert not room.refused(BoxId(box))
    assert (room.window, room.full) == (2, True)
    await making.end("a")
    await making.begin("i")
    assert "i" not in making.inside
    await making.end(*"bcdefgh")
    assert making.inside == {"i"}
    assert (room.window, room.full) == (8, False)
    await making.end("i")


async def test_a_box_that_failed_teaches_nothing_and_leaves_its_turn() -> None:
    room = ClusterRoom(1)
    told: list[int] = []
    room.tell(lambda: told.append(room.window))
    with pytest.raises(SandboxError):
        async with room.making(BoxId("a")):
            raise SandboxError("no image")
    async with room.making(BoxId("b")):
        pass
    assert told == [1, 1]


async def test_whoever_gives_up_waiting_takes_nobodys_turn() -> None:
    making = Making(ClusterRoom(1))
    await making.begin("a", "b", "c")
    making.tasks["a"].add_done_callback(lambda _: making.tasks["b"].cancel())  # b's turn has come by then, and it has not run since
    making.ends["a"].set()
    await settled()
    assert making.inside == {"c"}
    await making.end("c")


async def test_whoever_comes_later_does_not_go_past_one_whose_turn_has_come() -> None:
    making = Making(ClusterRoom(1))
    await making.begin("a", "b")
    making.ends["a"].set()
    await making.begin("c")  # its task runs after a's end, and before b's
    assert making.inside == {"b"}
    await making.end("b", "c")
    await asyncio.gather(*making.tasks.values())


async def test_boxes_that_find_no_place_for_long_stand_aside_and_others_are_let_past() -> None:
    room = ClusterRoom(2)
    told: list[int] = []
    room.tell(lambda: told.append(room.aside))
    making = Making(room)
    await making.begin("large", "larger", "c", "d", "e")
    for box in ("large", "larger"):
        room.refused(BoxId(box))
        room.stand_aside(BoxId(box))
        room.stand_aside(BoxId(box))
        assert not room.refused(BoxId(box))
    await settled()
    assert making.inside == {"large", "larger", "c", "d"}
    assert (room.full, told) == (True, [1, 2])
    await making.end("large", "larger")
    assert making.inside == {"c", "d"}
    assert (room.full, room.aside) == (False, 0)
    await making.end("c", "d", "e")
    await asyncio.gather(*making.tasks.values())
