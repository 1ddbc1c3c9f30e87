"""Measures SWE-ReX through its own client. Run by `peers` with the Python of SWE-ReX's virtual environment: PORT TOKEN.

Each line of standard input, `execute COUNT` or `session COUNT`, is answered with a line of JSON: milliseconds.
"""

import asyncio
import json
import logging
import sys
import time

from swerex.runtime.abstract import BashAction, Command, CreateBashSessionRequest  # type: ignore[import-not-found]
from swerex.runtime.remote import RemoteRuntime  # type: ignore[import-not-found]

READY_S = 30.0


async def main(port: int, token: str) -> None:
    """Serve until standard input ends."""
    logging.disable(logging.CRITICAL)
    runtime = RemoteRuntime(host="http://127.0.0.1", port=port, auth_token=token, timeout=READY_S)
    await runtime.wait_until_alive(timeout=READY_S)
    await runtime.create_session(CreateBashSessionRequest())
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, count = line.split()
        taken = []
        for _ in range(int(count)):
            began = time.perf_counter()
            if what == "execute":
                await runtime.execute(Command(command=["/bin/true"]))
            else:
                await runtime.run_in_session(BashAction(command="/bin/true"))
            taken.append((time.perf_counter() - began) * 1e3)
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
