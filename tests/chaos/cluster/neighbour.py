"""A farm beside the one that is harmed, in the same namespace, of the same name: it holds a box and a running episode, and watches them.

    python -m tests.chaos.cluster.neighbour

Speaks as `tests.chaos.neighbour` does: a line of JSON, then `well` or what was hurt for each line of input.
"""

import asyncio
import json
import os
import secrets
import sys

from envfarm.controller.owners import Owners
from envfarm.core import digest
from envfarm.core.errors import EnvfarmError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.settings import read
from envfarm.testing.factories import make_spec
from envfarm.wiring import Farm

RUN = "neighbour"
TRIES = 20
"""What it looks at may be away for a moment; what is hurt stays so."""


async def hurts(farm: Farm, box: Box, word: str) -> list[str]:
    """What is no longer as it was."""
    found = []
    try:
        seen = await box.exec(ExecRequest(shell="cat /tmp/word; cat /proc/[0-9]*/comm | grep -c '^sleep$'", cwd="/"))
        if seen.stdout.decode().split() != [word, "1"]:
            found.append(f"its box lost what was in it: {seen.text!r}")
    except EnvfarmError as e:
        found.append(f"its box: {e}")
    rows = await farm.episodes.episodes(make_spec(run=RUN).run_id)
    if [row.state for row in rows] != ["running"]:
        found.append(f"its running episode is {[row.state for row in rows]}")
    return found


async def said_of(farm: Farm, box: Box, word: str) -> str:
    found: list[str] = []
    for _ in range(TRIES):
        try:
            found = await hurts(farm, box, word)
        except EnvfarmError as e:  # of the database
            found = [str(e)]
        if not found:
            return "well"
        await asyncio.sleep(1)
    return "; ".join(found)


async def live() -> None:
    image = os.environ["ENVFARM_TEST_IMAGE"]  # noqa: TID251 - a test's own needs
    environment = Environment(image=ImageRef(kind="oci", digest=digest.of_bytes(image.encode()), reference=image), work_dir="/tmp")
    async with Farm(read()) as farm:
        box = await farm.provider("kubernetes").create(SandboxSpec(environment=environment, memory_mib=64, disk_mib=16, pids=64))
        word = secrets.token_hex(8)
        await box.exec(ExecRequest(shell=f"echo {word} >/tmp/word; setsid sleep 86400 >/dev/null 2>&1 &", cwd="/"))
        with Owners(farm.settings.runs / "owners").hold() as owner:
            await farm.episodes.add_specs([make_spec(run=RUN)])
            assert await farm.episodes.claim(make_spec(run=RUN).run_id, owner) is not None
            maker = box.box_id.removeprefix("box-").rpartition("-")[0]
            told = {"owner": maker, "names": [box.box_id], "lock": f"{owner}.lock"}
            print(json.dumps(told), flush=True)  # noqa: T201 - this is what it is asked for
            while await asyncio.to_thread(sys.stdin.readline):
                print(await said_of(farm, box, word), flush=True)  # noqa: T201 - see above
        await box.close()


if __name__ == "__main__":
    asyncio.run(live())
