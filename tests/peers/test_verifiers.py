"""verifiers' evaluation, the real one, plays tasks of a served farm: its harness and its model, the farm's boxes and rewards."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.peers.conftest import ROOT, Served, interpreter
from tests.peers.scripted_model import Say, scripted_model

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(900)]

MODULE = """from envfarm.integrations.verifiers import FarmEnv, FarmTaskset

__all__ = ["FarmEnv", "FarmTaskset"]
"""
EDIT = '{"tool": "str_replace", "path": "add.sh", "old": " - ", "new": " + "}'
FINISH = '```json\n{"tool": "finish"}\n```'


@pytest.fixture(scope="module")
def python() -> Path:
    return interpreter("verifiers")


def evaluated(farm: Served, python: Path, home: Path, say: Say, rollouts: int = 1) -> list[dict[str, Any]]:
    """The episodes that `vf-eval` wrote down."""
    (home / "farm_tasks.py").write_text(MODULE)
    (home / "token").write_text(farm.token)
    with scripted_model(say) as model:
        options = {
            "model": "scripted",
            "client.base-url": model,
            "client.api-key-var": "NO_KEY",
            "env.taskset.id": "farm-tasks",
            "env.taskset.url": farm.url,
            "env.taskset.token-file": home / "token",
            "env.taskset.turns": 3,
            "env.player.harness.id": "null",
            "env.player.runtime.type": "subprocess",
            "num-rollouts": rollouts,
            "max-concurrent": 1,
            "output-dir": home / "outputs",
        }
        argv = [str(python.with_name("vf-eval")), *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        # verifiers prepares its harness with uv, which stands beside this interpreter.
        found = {"PYTHONPATH": f"{ROOT}:{home}", "PATH": f"{Path(sys.executable).parent}:{os.defpath}"}
        argv = ["env", *(f"{name}={value}" for name, value in found.items()), *argv]
        names = ["--env.taskset.names", json.dumps([farm.task]), "--no-push", "--no-rich"]
        done = subprocess.run([*argv, *names], check=False, capture_output=True, text=True, timeout=300, cwd=home)
    assert done.returncode == 0, done.stderr[-4000:]
    (written,) = (home / "outputs").glob("*/traces.jsonl")
    return [json.loads(line) for line in written.read_text().splitlines()]


def test_its_agent_plays_and_the_farm_grades(farm: Served, python: Path, tmp_path: Path) -> None:
    replies = iter([EDIT, FINISH, FINISH, "I cannot say.", EDIT.replace("add.sh", "none"), '{"tool": "bash", "command": "ls"}'])
    heard: list[str] = []

    def say(conversation: list[dict[str, Any]]) -> str:
        heard.append(str(conversation[-1]["content"]))
        return next(replies)

    episodes = evaluated(farm, python, tmp_path, say, rollouts=3)
    assert all(episode["ok"] and not episode["errors"] for episode in episodes)
    rewards = [episode["traces"][0]["rewards"]["farm"]["score"] for episode in episodes]
    assert rewards == [1.0, 0.0, 0.0], "mended, untouched, out of turns"
    assert heard[0].startswith("Make add.sh add.")
    assert "Replaced 1 occurrence" in heard[1]
    assert "not an action in JSON" in heard[4]


def test_an_invalid_episode_fails_and_is_no_zero(farm: Served, python: Path, tmp_path: Path) -> None:
    def say(_: list[dict[str, Any]]) -> str:
        auth = {"Authorization": f"Bearer {farm.token}"}
        live = httpx.get(f"{farm.url}/v1/episodes", params={"state": "running"}, headers=auth).raise_for_status().json()["items"]
        for one in live:
            httpx.delete(f"{farm.url}/v1/episodes/{one['id']}", headers=auth).raise_for_status()
        return EDIT

    (episode,) = evaluated(farm, python, tmp_path, say)
    assert not episode["ok"]
    (trace,) = episode["traces"]
    assert not trace.get("rewards")
    assert "not a reward of 0" in str(episode["errors"]) + str(trace["errors"])
