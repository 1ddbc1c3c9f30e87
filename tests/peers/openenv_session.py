"""The real OpenEnv's client against the real OpenEnv's server of a farm, for `test_openenv.py`: run by an interpreter that has OpenEnv.

    python -m tests.peers.openenv_session URL TOKEN TASK

Says a line of JSON per session: what the client saw, or the error that it raised.
"""

import json
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from openenv import GenericEnvClient

from envfarm.client import Budgets, Client, TaskSelector
from envfarm.integrations.openenv import Offer, app

EDIT = {"action": {"tool": "str_replace", "path": "add.sh", "old": " - ", "new": " + "}}
LOOK = {"action": {"tool": "bash", "command": "cat add.sh; exit 3"}}
FINISH = {"action": {"tool": "finish"}}


def solved(env: Any, _: Client) -> list[Any]:
    """It looks, mends and finishes."""
    return [env.reset(seed=1), env.step(LOOK), env.step(EDIT), env.step(FINISH), env.state()]


def untouched(env: Any, _: Client) -> list[Any]:
    """It finishes at once, on a task by its name; then another episode of the same session runs out of turns."""
    seen = [env.reset(task=sys.argv[3]), env.step(FINISH), env.reset()]
    return [*seen, *(env.step(LOOK) for _ in range(3))]


def called_off(env: Any, farm: Client) -> list[Any]:
    """The farm calls its episode off: no reward, and no 0."""
    env.reset()
    farm.close_episode(env.state()["episode_id"])
    return [env.step(LOOK)]


def nonsense(env: Any, _: Client) -> list[Any]:
    """An action that is none."""
    env.reset()
    return [env.step({"action": {"tool": "no such tool"}})]


def told(play: Callable[[Any, Client], list[Any]], url: str, farm: Client) -> dict[str, Any]:
    with GenericEnvClient(base_url=url, message_timeout_s=120.0).sync() as env:
        try:
            seen = play(env, farm)
        except RuntimeError as e:
            return {"session": play.__name__, "error": str(e)}
    results = [{"observation": r.observation, "reward": r.reward, "done": r.done} if hasattr(r, "done") else r for r in seen]
    return {"session": play.__name__, "seen": results}


def main(url: str, token: str, task: str) -> None:
    with Client(url, token) as farm:
        offer = Offer(tasks=TaskSelector(names=(task,)), budgets=Budgets(turns=3))
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app(farm, offer), log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        port = listening.getsockname()[1]
        for play in (solved, untouched, called_off, nonsense):
            sys.stdout.write(json.dumps(told(play, f"http://127.0.0.1:{port}", farm)) + "\n")
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3])
