"""The engine or the gateway of the measured pair, each a process: `python -m tests.bench.gateway_process engine|gateway`.

Started by `gateway.py` alone. Prints one JSON object when it serves, and serves until its standard input ends.
"""

import asyncio
import json
import sys
from dataclasses import asdict
from typing import Any

from envfarm.core.engine import EngineSpec
from envfarm.testing.engine_replies import Ordered, Reply
from envfarm.testing.engine_simulator import engine_simulator
from envfarm.testing.small_tokenizer import small_tokenizer
from tests.integration.gateway_agents import served

LINE = "def add(a: int, b: int) -> int: return a + b # and the test suite runs again and again. "
MOST_TOKENS = 2000
CONTEXT = 200_000


def reply_ids(count: int) -> tuple[int, ...]:
    """What every call is answered with: so many tokens of plain text."""
    ids = small_tokenizer().encode_text(LINE * (count // 8 + 1))
    return tuple(ids[:count])


def main() -> None:
    """One of the two."""
    role, *rest = sys.argv[1:]
    if role == "engine":
        engine()
    else:
        asyncio.run(gateway(rest[0], int(rest[1])))


def engine() -> None:
    """Every call gets as many tokens as it asks for, cut into events as the simulator cuts them."""
    reply = Reply(ids=reply_ids(MOST_TOKENS))

    def script(_: Ordered, __: int) -> Reply:
        return reply

    with engine_simulator(script) as running:
        _tell({"url": running.url})
        sys.stdin.read()


async def gateway(engine_url: str, episodes: int) -> None:
    """With so many episodes open."""
    async with served(EngineSpec(name="a", kind="sglang", url=engine_url)) as site:
        opened = [site.open(f"e{n}", context_tokens=CONTEXT) for n in range(episodes)]
        _tell({"url": site.url, "episodes": [asdict(access) for access in opened]})
        await asyncio.to_thread(sys.stdin.read)


def _tell(said: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
