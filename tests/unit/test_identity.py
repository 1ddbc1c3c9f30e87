"""Identities: what names a thing must not change when a later version knows more of it."""

from dataclasses import replace

from envfarm.core import digest
from envfarm.core import plan as plans
from envfarm.core.episode import SEEDS, derived_seed
from envfarm.core.frozen import Frozen
from envfarm.testing import small_task
from envfarm.testing.factories import make_spec


class Known(Frozen):
    name: str


class KnownLater(Frozen):
    name: str
    colour: str = ""


def test_a_field_that_is_added_later_changes_no_identity() -> None:
    assert digest.of_noun(Known(name="a")) == digest.of_noun(KnownLater(name="a"))
    assert digest.of_noun(KnownLater(name="a", colour="red")) != digest.of_noun(KnownLater(name="a"))


def test_whatever_is_said_of_a_task_counts() -> None:
    task = small_task.make()
    others = [
        task.model_copy(update={"instruction": task.instruction + "."}),
        task.model_copy(update={"plan": replace(task.plan, fail_to_pass=task.plan.fail_to_pass[:1])}),
        task.model_copy(update={"plan": replace(task.plan, commands=(plans.TestCommand(("true",), "junit", 60.0, {}),))}),
        task.model_copy(update={"limits": task.limits.model_copy(update={"pids": 7})}),
        task.model_copy(update={"tests": {**task.tests, "files/more.py": b""}}),
    ]
    assert len({task.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_no_call_of_a_model_has_the_seed_of_another() -> None:
    """Of neighbouring members, rollouts and calls: with seeds that are added up, a call that fails gives the next member's to the rest."""
    members = [make_spec(member).model_copy(update={"seed": rollout + member}) for rollout in range(3) for member in range(16)]
    seeds = {derived_seed(spec.sampling_seed, call) for spec in members for call in range(20)}
    assert len(seeds) == 3 * 16 * 20
    assert all(0 <= seed < SEEDS for seed in seeds)


def test_a_seed_that_is_given_is_the_same_in_another_run() -> None:
    spec = make_spec(2).model_copy(update={"seed": 7})
    again = make_spec(2, run="another").model_copy(update={"seed": 7})
    assert spec.episode_id != again.episode_id
    assert derived_seed(spec.sampling_seed, 4) == derived_seed(again.sampling_seed, 4)
    assert spec.model_copy(update={"seed": 8}).sampling_seed != spec.sampling_seed
