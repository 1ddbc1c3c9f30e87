"""OpenEnv's client, the real one, plays a task of a served farm over OpenEnv's own server."""

import json
import subprocess
from typing import Any

import pytest

from tests.peers.conftest import ROOT, Served, interpreter

pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sessions(farm: Served) -> dict[str, dict[str, Any]]:
    """What the client saw, by session."""
    program = [str(interpreter("openenv")), "-B", "-m", "tests.peers.openenv_session", farm.url, farm.token, farm.task]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=200, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-4000:]
    return {told["session"]: told for told in map(json.loads, done.stdout.splitlines())}


def test_it_sees_what_its_actions_did_and_the_reward_at_the_end(sessions: dict[str, dict[str, Any]]) -> None:
    *steps, state = sessions["solved"]["seen"]
    assert [step["done"] for step in steps] == [False, False, False, True]
    assert [step["reward"] for step in steps] == [None, None, None, 1.0]
    assert steps[0]["observation"]["text"] == "Make add.sh add."
    assert steps[1]["observation"]["exit_code"] == 3
    assert "$1 + $2" in steps[2]["observation"]["text"]
    assert state["step_count"] == 3
    assert state["episode_id"].startswith("episode-")


def test_a_session_plays_one_episode_after_another_and_a_budget_ends_it(sessions: dict[str, dict[str, Any]]) -> None:
    seen = sessions["untouched"]["seen"]
    assert [step["done"] for step in seen] == [False, True, False, False, False, True]
    assert (seen[1]["reward"], seen[1]["observation"]["outcome"]) == (0.0, "scored")
    assert (seen[-1]["reward"], seen[-1]["observation"]["outcome"]) == (0.0, "censored")


def test_an_invalid_episode_is_an_error_and_no_zero(sessions: dict[str, dict[str, Any]]) -> None:
    assert "not a reward of 0" in sessions["called_off"]["error"]
    assert "cancelled" in sessions["called_off"]["error"]


def test_what_is_no_action_is_refused(sessions: dict[str, dict[str, Any]]) -> None:
    assert "VALIDATION_ERROR" in sessions["nonsense"]["error"]
