"""`envfarm serve` as a person starts it, with real boxes: rollouts, a driven episode, patches, and a kill -9 in the middle."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from envfarm.client import (
    Client,
    EpisodeRequest,
    LeaseRequest,
    PolicySpec,
    RetryPolicy,
    RewardRequest,
    RolloutRequest,
    ServerProblem,
    StepRequest,
    TaskSelector,
)
from envfarm.core.action import Bash
from tests.integration.program.conftest import NAME
from tests.integration.program.process import envfarm, press_ctrl_c, started

FIX = """--- a/add.sh
+++ b/add.sh
@@ -1,2 +1,2 @@
 #!/bin/sh
-echo $(($1 - $2))
+echo $(($1 + $2))
"""
ROOT = Path(__file__).parents[3]
LOOP = ROOT / "examples" / "rollouts.py"
STEPS = ROOT / "examples" / "drive_steps.py"
pytestmark = pytest.mark.slow


def where(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    """The address and the token that it prints first."""
    assert process.stdout is not None
    url, token = (process.stdout.readline().decode().split(" ", 1)[1].strip() for _ in range(2))
    return url, token


def test_the_quickstarts_loop_runs(farm_home: Path) -> None:
    assert LOOP.read_text().split('"""', 2)[2].split("import sys\n", 1)[1].strip() in (ROOT / "docs/quickstart.md").read_text()
    with started(farm_home, "serve", "--port", "0") as process:
        url, token = where(process)
        seen: list[str] = []
        for _ in range(2):  # the farm has versions already when it runs again
            done = subprocess.run([sys.executable, LOOP, url, token, NAME], check=True, capture_output=True, text=True, timeout=100)
            seen += done.stdout.splitlines()
        steps = subprocess.run([sys.executable, STEPS, url, token, NAME], check=True, capture_output=True, text=True, timeout=100)
        assert [line.split(" tokens")[0] for line in steps.stdout.splitlines()] == ["scored 0.0"] * 4
        assert {line.rpartition(" ")[2] for line in steps.stdout.splitlines()} == {"4"}, "two tokens of each of two steps"
        assert seen == [f"{NAME} {v} [1.0, 1.0, 1.0, 1.0]" for v in (1, 2, 3, 4)]
        press_ctrl_c(process)


def asked(policy: PolicySpec, members: int = 2) -> RolloutRequest:
    return RolloutRequest(tasks=TaskSelector(names=(NAME,)), group_size=members, policy=policy)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_stopping_answers_whoever_waits(farm_home: Path, number: signal.Signals) -> None:
    with started(farm_home, "serve", "--port", "0") as process, ThreadPoolExecutor(2) as threads:
        url, token = where(process)
        with Client(url, token, retry=RetryPolicy(tries=1)) as farm:
            farm.pause("held")
            rollout = farm.submit(asked(PolicySpec(name="nop"), 1).model_copy(update={"policy_name": "held"}))
            told = farm.events(rollout.id)
            assert next(told).kind == "accepted"
            polling = threads.submit(farm.lease, LeaseRequest(wait_s=60.0))
            episode = threads.submit(farm.episode, next(iter(farm.trajectories(rollout.id))).spec.episode_id, wait_s=60.0)
            assert farm.policy("held").paused
            ended = press_ctrl_c(process, number)
            assert [line for line in ended.err.splitlines() if "Exception" in line or "Cancel" in line] == []
            for waiting in (polling, episode):
                refused = waiting.exception()
                assert isinstance(refused, ServerProblem)
                assert (refused.status, refused.retryable) == (503, True)


def test_sigterm_lets_go_of_the_lease_as_ctrl_c_does(farm_home: Path) -> None:
    with started(farm_home, "serve", "--port", "0") as process:
        where(process)
        leases = farm_home / "runs/owners"
        while not list(leases.glob("*.lock")):
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 0
    assert list(leases.glob("*.lock")) == []
    with closing(sqlite3.connect(farm_home / "runs/episodes.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM leases WHERE until > 0").fetchall() == [(0,)]


def test_it_serves_without_configuration_and_survives_kill_9(farm_home: Path) -> None:
    ls = StepRequest(step_id="1", action=Bash(command="ls"))
    with started(farm_home, "serve", "--port", "0", "--lease", "2") as process:
        url, token = where(process)
        with Client(url, token) as farm:
            gold = farm.submit(asked(PolicySpec(name="gold")))
            (group,) = farm.groups(rollouts=[gold.id])
            assert [m.outcome.reward for m in group.members if m.outcome.kind == "scored"] == [1.0, 1.0]
            nop = farm.submit(asked(PolicySpec(name="nop"), 1))
            (group,) = farm.groups(rollouts=[nop.id])
            assert [m.outcome.reward for m in group.members if m.outcome.kind == "scored"] == [0.0]
            rewards = [farm.reward(RewardRequest(task=NAME, patch=patch)) for patch in (FIX, FIX.replace(" - ", " * "), "")]
            assert [(r.outcome.reward, r.applied) for r in rewards if r.outcome and r.outcome.kind == "scored"] == [
                *((1.0, True), (0.0, False), (0.0, None))
            ]
            assert [bool(r.refusal) for r in rewards] == [False, True, False]
            assert "patch does not apply" in rewards[1].refusal
            episode = farm.create_episode(EpisodeRequest(task=NAME))
            seen = farm.step(episode.id, ls)
            assert seen.observation is not None
            assert "add.sh" in seen.observation.text
            for policy in (
                PolicySpec(name="openai_chat", options={"model": "m", "base_url": "http://169.254.169.254/v1"}),
                PolicySpec(name="openai_chat", options={"model": "m"}),
                PolicySpec(name="scripted", options={"file": "/etc/passwd"}),
            ):
                with pytest.raises(ServerProblem) as refused:
                    farm.submit(asked(policy))
                assert refused.value.status == 403
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    with started(farm_home, "serve", "--port", "0") as process:
        url, again = where(process)
        assert again == token, "the token is kept"
        with Client(url, token) as farm:
            assert farm.rollout(gold.id).groups == {"acknowledged": 1}
            assert farm.step(episode.id, ls).observation == seen.observation
            fork = farm.fork(episode.id)
            assert (fork.state, fork.turns, fork.observation) == ("ready", 1, seen.observation)
            assert fork.branch is not None
            assert fork.branch.agreed
            fixed = farm.step(episode.id, StepRequest(step_id="2", action=Bash(command="sed -i 's/ - / + /' add.sh")))
            assert fixed.done
            graded = farm.grade(episode.id)
            assert graded.terminated
            assert graded.outcome is not None
            assert graded.outcome.kind == "scored"
            assert graded.outcome.reward == 1.0
            unfixed = farm.grade(fork.id)
            assert unfixed.outcome is not None
            assert unfixed.outcome.kind == "scored"
            assert unfixed.outcome.reward == 0.0, "its box is its own"
        ended = press_ctrl_c(process)
        assert "Traceback" not in ended.err
    assert list((farm_home / "boxes").glob("[!.]*")) == []
    assert "done" in envfarm(farm_home, "episode", "list", "--run", gold.id).out
