"""Identities: what names a thing must not change when a later version knows more of it."""

from dataclasses import replace

from envfarm.core import digest
from envfarm.core import plan as plans
from envfarm.core.frozen import Frozen
from envfarm.testing import small_task


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
