"""TRL's GRPO, the real one, takes its rewards and tokens from a served farm."""

import json
import subprocess
from typing import Any

import pytest

from tests.peers.conftest import ROOT, Served

STEPS, TURNS = 26, 2
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def run(farm: Served, trl_image: str) -> dict[str, list[Any]]:
    """What the training said, by kind of line."""
    box = ["docker", "run", "--rm", "--network=host", f"--volume={ROOT}:/envfarm:ro", "--workdir=/envfarm", "--env=HF_HUB_OFFLINE=1"]
    program = ["/venv/bin/python", "-B", "-m", "tests.peers.trl_training", farm.url, farm.token, farm.task, str(STEPS)]
    done = subprocess.run([*box, trl_image, *program], check=False, capture_output=True, text=True, timeout=1400)
    assert done.returncode == 0, done.stderr[-4000:]
    told: dict[str, list[Any]] = {"batch": [], "trained": []}
    for line in done.stdout.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in told:
            told[kind].append(json.loads(rest))
    return told


def test_every_token_comes_back_as_it_was_sampled(run: dict[str, list[Any]]) -> None:
    assert len(run["batch"]) == STEPS
    assert sum(b["calls"] for b in run["batch"]) > STEPS * 16
    assert [b["foreign"] for b in run["batch"]] == [0] * STEPS
    assert all(b["unsent"] <= TURNS * b["outcomes"].count("invalid") for b in run["batch"]), "of counted episodes nothing is missing"
    assert max(b["furthest"] for b in run["batch"]) < 1e-3, "logprobs are the model's own"
    assert all(b["farm_tokens"] for b in run["batch"]), "episodes have several turns"


def test_an_invalid_episode_is_no_zero(run: dict[str, list[Any]]) -> None:
    pairs = [pair for b in run["batch"] for pair in zip(b["outcomes"], b["rewards"], strict=True)]
    assert {kind for kind, _ in pairs} == {"scored", "censored", "invalid"}
    assert all((reward is None) == (kind == "invalid") for kind, reward in pairs)
    assert all(b["counted"] == [reward is not None for reward in b["rewards"]] for b in run["batch"]), "its tokens are masked"


def test_it_learns_from_what_differs_within_groups(run: dict[str, list[Any]]) -> None:
    """Also where the farm plays fewer episodes at a time than a batch has."""
    (trained,) = run["trained"]
    assert trained["steps"] == STEPS
    assert trained["moved"] > 0
    assert sum(g > 0 for g in trained["gradients"]) > STEPS // 3
    means = trained["rewards"]
    assert sum(means[-5:]) / 5 > sum(means[:5]) / 5 + 0.3
