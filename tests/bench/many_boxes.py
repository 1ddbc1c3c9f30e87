"""Actions per second over a hundred local boxes at once, beside what the kernel alone gives on as many processes as there are CPUs."""

import asyncio
import os
import time

from envfarm.core.protocols import Box
from tests.bench.machine import TRUE, Bench, box_or_why, floor
from tests.bench.measure import Row

BOXES = 100
EACH = 5
ROUNDS = 5
FLOOR = "floor: posix_spawn and wait, one box per CPU"


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    began = time.perf_counter()
    made = await asyncio.gather(*(box_or_why(bench, "local") for _ in range(BOXES)))
    start_s = time.perf_counter() - began
    boxes = [box for box in made if not isinstance(box, str)]
    if len(boxes) < BOXES:
        await _close(boxes)
        return [Row(f"{BOXES} boxes at once", "", beside=next(why for why in made if isinstance(why, str)))]
    cpus = len(os.sched_getaffinity(0))
    ours, theirs = [], []
    for number in range(bench.rounds(ROUNDS) + 1):
        rate = await _rate(boxes)
        began = time.perf_counter()
        ran = await asyncio.gather(*(floor(box, BOXES * EACH // cpus) for box in boxes[:cpus]))
        kernel = sum(map(len, ran)) / (time.perf_counter() - began)
        if number:
            ours.append(rate)
            theirs += [kernel] if kernel else []
    closing = time.perf_counter()
    await _close(boxes)
    return [
        Row(f"actions, {BOXES} local boxes at once", "1/s", ours, FLOOR, theirs, more_is_better=True),
        Row(f"starting {BOXES} local boxes at once", "s", [start_s]),
        Row(f"closing {BOXES} local boxes", "s", [time.perf_counter() - closing]),
    ]


async def _rate(boxes: list[Box]) -> float:
    async def play(box: Box) -> None:
        for _ in range(EACH):
            await box.exec(TRUE)

    began = time.perf_counter()
    await asyncio.gather(*map(play, boxes))
    return len(boxes) * EACH / (time.perf_counter() - began)


async def _close(boxes: list[Box]) -> None:
    await asyncio.gather(*(box.close() for box in boxes))
