from pathlib import Path

import pytest

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.sandbox import SandboxSpec
from envfarm.episodes.events import Observed
from envfarm.episodes.tools import Call, Tools
from envfarm.policies.gold import CHUNK_BYTES, gold
from envfarm.policies.nop import nop
from envfarm.policies.registry import PolicyInputs, make
from envfarm.policies.scripted import Scripted, read_actions
from envfarm.testing.factories import make_environment, make_plan, make_step, make_task
from envfarm.testing.scripted_box import ScriptedBox, run_on_host


async def played(policy: Scripted, turns: int) -> list[Action]:
    return [(await policy.next_action("", [make_step(i) for i in range(n)])).action for n in range(turns)]


async def test_a_script_is_played_and_then_finished() -> None:
    assert await played(Scripted([Bash(command="a"), Bash(command="b")]), 4) == [Bash(command="a"), Bash(command="b"), Finish(), Finish()]


async def test_nop_finishes_at_once() -> None:
    (first,) = await played(nop(), 1)
    assert isinstance(first, Finish)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '[{"tool": "bash", "command": "ls"}, {"tool": "finish"}]'),
        ("a.toml", '[[actions]]\ntool = "bash"\ncommand = "ls"\n[[actions]]\ntool = "finish"\n'),
    ],
)
def test_scripts_are_read_from_json_and_toml(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_actions(tmp_path / name) == (Bash(command="ls"), Finish())


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "[{", "a.json"),
        ("a.json", '{"tool": "bash"}', "action"),
        ("a.json", '[{"tool": "bash"}]', "command"),
        ("a.json", '[{"tool": "dance"}]', "dance"),
        ("a.toml", "x = ", "a.toml"),
        ("a.toml", "x = 1", "action"),
    ],
)
def test_scripts_that_are_wrong_say_where(tmp_path: Path, name: str, text: str, words: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=words):
        read_actions(tmp_path / name)


def test_a_missing_script_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file") as told:
        read_actions(tmp_path / "none.json")
    assert "a JSON list of actions" in told.value.hint


async def test_gold_runs_the_solution_in_the_work_dir_and_removes_it(tmp_path: Path) -> None:
    work = tmp_path / "a work dir"
    work.mkdir()
    large = bytes(range(256)) * (CHUNK_BYTES // 128)
    solution = {
        "solve.sh": b'#!/bin/sh\nhere=$(dirname "$0")\ncp "$here/data/blob\'s file" ./blob\necho "$here" >where\nexit 0\n',
        "data/blob's file": large,
    }
    box = ScriptedBox(SandboxSpec(environment=make_environment()), run_on_host(tmp_path))
    tools = Tools(box, make_plan(work_dir=str(work)))
    policy = gold(make_task(solution=solution, plan=make_plan(work_dir=str(work))))
    actions: list[Action] = []
    while not actions or not isinstance(actions[-1], Finish):
        actions.append((await policy.next_action("", [make_step(i) for i in range(len(actions))])).action)
        if not isinstance(actions[-1], Finish):
            seen = await tools.run(actions[-1], Call(f"e.0.{len(actions)}", 10.0))
            assert isinstance(seen, Observed)
            assert seen.exit_code == 0, seen.text
    assert (work / "blob").read_bytes() == large
    where = Path((work / "where").read_text().strip())
    assert not where.exists()  # noqa: ASYNC240 - a test may wait for its disk
    assert all(len(a.command) < 100_000 for a in actions if isinstance(a, Bash))


async def test_gold_shows_the_solutions_own_status(tmp_path: Path) -> None:
    box = ScriptedBox(SandboxSpec(environment=make_environment()), run_on_host(tmp_path))
    tools = Tools(box, make_plan(work_dir=str(tmp_path)))
    policy = gold(make_task(solution={"solve.sh": b"exit 7\n"}, plan=make_plan(work_dir=str(tmp_path))))
    codes = []
    for n in range(2):
        action = (await policy.next_action("", [make_step(i) for i in range(n)])).action
        seen = await tools.run(action, Call(f"e.0.{n}", 10.0))
        assert isinstance(seen, Observed)
        codes.append(seen.exit_code)
    assert codes == [0, 7]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (PolicySpec(name="wizard"), "wizard"),
        (PolicySpec(name="gold", options={"x": 1}), "takes no options, but was given x"),
        (PolicySpec(name="scripted"), "`actions`"),
        (PolicySpec(name="scripted", options={"actions": [], "file": "x"}), "`actions`"),
        (PolicySpec(name="scripted", options={"actions": [{"tool": "x"}]}), "policy scripted: action 0"),
        (PolicySpec(name="scripted", options={"actions": [], "speed": 2}), "`speed` is not an option"),
        (PolicySpec(name="patch", options={"patch": "", "path": "x"}), "`path` is not an option"),
        (PolicySpec(name="openai_chat"), "`model` is missing"),
        (PolicySpec(name="openai_chat", options={"model": "m", "temprature": 1}), "temprature"),
        (PolicySpec(name="openai_chat", options={"model": "m"}), "HTTP client"),
    ],
)
def test_a_wrong_policy_is_a_usage_error_that_names_it(spec: PolicySpec, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make(spec, make_task(), PolicyInputs())


async def test_policies_are_made_by_name() -> None:
    spec = PolicySpec(name="scripted", options={"actions": [{"tool": "bash", "command": "ls"}]})
    policy = make(spec, make_task(), PolicyInputs())
    assert isinstance(policy, Scripted)
    assert (await policy.next_action("", [])).action == Bash(command="ls")
