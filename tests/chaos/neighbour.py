"""A farm beside the one that is killed: it holds a live box, an owner's lock, a running episode and a half-made layer, and watches them.

    python -m tests.chaos.neighbour

Says in a line of JSON what it holds; answers each line of input with `well` or with what was hurt; closes all at the end of its input.
"""

import asyncio
import json
import os
import secrets
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from envfarm.controller.owners import Owners
from envfarm.core import digest
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.images.layer_store import LayerStore
from envfarm.settings import read
from envfarm.testing.factories import make_environment, make_spec
from envfarm.wiring import Farm

RUN = "neighbour"


class Holdings:
    """What it has, and how it looks when nobody touched it."""

    def __init__(self, farm: Farm, box: Box, half_layer: Path) -> None:
        self._farm = farm
        self._box = box
        self._word = secrets.token_hex(8)
        boxes = farm.settings.home / "boxes"
        self._owner = box.box_id.partition("-")[0]
        self._watched = {
            path: path.stat().st_ino
            for path in (boxes / box.box_id, boxes / box.box_id / "box.json", boxes / f".owner-{self._owner}" / "lock", half_layer)
        }
        self._half = half_layer

    async def begin(self) -> None:
        """Leave a file and a sleeper in the box."""
        await self._box.exec(ExecRequest(shell=f"echo {self._word} >/tmp/word; setsid sleep 86400 >/dev/null 2>&1 &"))

    def told(self) -> dict[str, Any]:
        """For the harness: names in the home that are this neighbour's."""
        layer = self._half.name.partition("-")[2].partition("-")[0]
        return {
            "pid": os.getpid(),
            "owner": self._owner,
            "names": [self._box.box_id, f".owner-{self._owner}", self._half.name, f".lock-{layer}"],
        }

    async def hurts(self) -> list[str]:
        """What is no longer as it was."""
        found = [f"{path} was touched" for path, inode in self._watched.items() if not path.exists() or path.stat().st_ino != inode]
        seen = await self._box.exec(ExecRequest(shell="cat /tmp/word; cat /proc/[0-9]*/comm | grep -c '^sleep$'"))
        if seen.stdout.decode().split() != [self._word, "1"]:
            found.append(f"its box lost what was in it: {seen.text!r}")
        rows = await self._farm.episodes.episodes(make_spec(run=RUN).run_id)
        if [row.state for row in rows] != ["running"]:
            found.append(f"its running episode is {[row.state for row in rows]}")
        return found


async def live() -> None:
    async with Farm(read()) as farm, AsyncExitStack() as held:
        spec = SandboxSpec(environment=make_environment(work_dir="/tmp"), memory_mib=128, disk_mib=16, pids=64)
        box = await farm.provider("local").create(spec)
        owner = held.enter_context(Owners(farm.settings.runs / "owners").hold())
        layers, layer = LayerStore(farm.settings.layers), digest.of_bytes(secrets.token_bytes(8))
        await held.enter_async_context(layers.claim(layer))
        half = held.enter_context(layers.scratch(layer))
        await farm.episodes.add_specs([make_spec(run=RUN)])
        claim = await farm.episodes.claim(make_spec(run=RUN).run_id, owner)
        assert claim is not None
        holdings = Holdings(farm, box, half)
        await holdings.begin()
        print(json.dumps(holdings.told() | {"lock": f"{owner}.lock"}), flush=True)  # noqa: T201 - this is what it is asked for
        while await asyncio.to_thread(sys.stdin.readline):
            print("; ".join(await holdings.hurts()) or "well", flush=True)  # noqa: T201 - see above
        await box.close()


if __name__ == "__main__":
    asyncio.run(live())
