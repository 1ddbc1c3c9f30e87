"""The id gate recognizes the project by its own address, for tasks of any origin."""

import pytest

from envfarm.core.task import Attribution, Task
from envfarm.testing.factories import make_recipe, make_task
from task_builders.candidates.upstream import Upstream
from task_builders.validation import ids

FIX = "c0ffee1234567890c0ffee1234567890c0ffee12"


def task(instruction: str = "Make `add` add.", **changed: object) -> Task:
    attribution = Attribution(licence="MIT", url="https://github.com/acme/frob/issues/12")
    return make_task(name="acme/frob-abcdefgh", instruction=instruction, attribution=attribution, **changed)


@pytest.mark.parametrize(
    "instruction",
    [
        "As on https://github.com/acme/frob it should add.",
        "It works again in pypi.org/project/frob/2.0/ of last week.",
        f"```\ngit checkout {FIX}\n```\n",
        "See `git+https://github.com/acme/frob.git`.",
    ],
)
def test_the_projects_own_address_and_hashes_lead_upstream(instruction: str) -> None:
    result = ids.judge(task(instruction))
    assert not result.passed
    assert "instruction" in result.evidence["found"]


def test_what_the_record_knows_is_looked_for_as_well() -> None:
    told = task(f"```\nversion {FIX[:9]}\n```\n")
    assert ids.judge(told).passed
    assert not ids.judge(told, Upstream("acme/frob", (FIX,))).passed


def test_paths_and_variables_are_looked_at() -> None:
    assert ids.judge(task(), top_paths={"src", "tests", "README.md", "2024-01-01.txt"}).passed
    assert ids.judge(task(), top_paths={"src", "GH-12"}).evidence["found"] == {"paths": ["GH-12"]}
    told = task(recipe=make_recipe(env={"FROM": "https://github.com/acme/frob/archive/2.0.tar.gz"}))
    assert "variable FROM" in ids.judge(told).evidence["found"]
