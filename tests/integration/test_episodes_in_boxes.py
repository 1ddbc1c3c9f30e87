"""Whole episodes in real local boxes: agent's box, tools, change, a fresh box with the sealed tests, outcome."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from envfarm.controller.attempts import Role
from envfarm.controller.local_pool import LocalPool, PoolOptions, PoolParts
from envfarm.controller.owners import Owners
from envfarm.controller.system_clock import SystemClock
from envfarm.core import digest
from envfarm.core.action import Action, Bash, Decision, Finish, ReadFile, RunTests, StrReplace
from envfarm.core.episode import Budgets, EpisodeSpec, PolicySpec
from envfarm.core.ids import RunId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Censored, Scored
from envfarm.core.plan import STATE_PLACES, Mode
from envfarm.core.task import Task
from envfarm.core.trajectory import Step, Trajectory
from envfarm.episodes.grader import SandboxGrader
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.policies.registry import PolicyInputs, make
from envfarm.policies.scripted import Scripted
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_ownership import Ownership
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing import adder_task
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.chat_server import Line, chat_server, tool_call
from envfarm.testing.factories import make_spec

TASK = adder_task.make()


@dataclass
class Farm:
    home: Path
    provider: LocalProvider
    environment: Environment
    trajectories: FileTrajectories

    @property
    def runner(self) -> EpisodeRunner:
        return EpisodeRunner(self.provider, SandboxGrader(self.provider), self.trajectories, SystemClock())

    def job(self, actions: Sequence[Action], spec: EpisodeSpec, earlier: Trajectory | None = None, task: Task = TASK) -> Assignment:
        return Assignment(spec, task, self.environment, Scripted(actions), earlier=earlier)

    async def played(self, task: Task, *commands: str) -> Scored:
        """The outcome of an agent that runs these commands."""
        outcome = await self.runner.run(self.job([*(Bash(command=c) for c in commands), Finish()], make_spec(), task=task))
        assert isinstance(outcome, Scored), outcome
        assert await self.left() == 0
        return outcome

    async def left(self) -> int:
        return len(list(Ownership(self.home / "home" / "boxes").known()))


@pytest.fixture
async def farm(tmp_path: Path, boxd: Path) -> AsyncIterator[Farm]:
    blobs = MemoryBlobs()
    environment = Environment(
        image=ImageRef(kind="host", digest=digest.of_bytes(b"host")),
        checkout=await blobs.put(adder_task.checkout_archive()),
        work_dir="/testbed",
    )
    provider = LocalProvider(tmp_path / "home", boxd, blobs)
    yield Farm(tmp_path, provider, environment, FileTrajectories(tmp_path / "trajectories"))
    await provider.aclose()


async def test_gold_scores_one_and_nop_zero_through_the_pool(farm: Farm) -> None:
    episodes = SqlEpisodes(open_sqlite(farm.home / "farm.db"), SystemClock())
    await episodes.open()

    async def cast(spec: EpisodeSpec) -> Role:
        return Role(TASK, farm.environment, make(spec.policy, TASK, PolicyInputs()))

    specs = [make_spec(n, run="r", policy=PolicySpec(name=name)) for n, name in enumerate(["gold", "nop", "gold", "nop"])]
    pool = LocalPool(PoolParts(episodes, farm.trajectories, farm.runner, Owners(farm.home / "owners"), cast), PoolOptions(boxes=2))
    report = await pool.run(RunId("r"), specs)
    outcomes = await episodes.outcomes([s.episode_id for s in specs])
    await episodes.close()
    assert report.states == {"done": 4}
    rewards = [o.reward for s in specs if isinstance(o := outcomes[s.episode_id], Scored)]
    assert rewards == [1.0, 0.0, 1.0, 0.0]
    assert await farm.left() == 0


async def test_the_tools_work_in_a_real_box(farm: Farm) -> None:
    spec = make_spec()
    script: list[Action] = [
        Bash(command="mkdir sub && cd sub && export WHO=agent"),
        Bash(command='echo "$WHO in $PWD"; ls missing'),
        Bash(command="sleep 60 & sleep 60", timeout_s=0.5),
        Bash(command="echo alive"),
        ReadFile(path="add.sh"),
        StrReplace(path="add.sh", old="$1 - $2", new="$1 + $2"),
        StrReplace(path="dos.txt", old="a\nb", new="a\nc"),
        StrReplace(path="new/file.txt", old="", new="made\n"),
        Bash(command="cd ..; stat -c %a add.sh dos.txt; od -An -c dos.txt; cat new/file.txt"),
        StrReplace(path="tests/mine.sh", old="", new="echo visible; exit 4\n"),
        RunTests(paths=("tests/mine.sh",)),
        ReadFile(path="/bin/sh"),
        Bash(command="exit 5"),
        Finish(),
    ]
    outcome = await farm.runner.run(farm.job(script, spec))
    told = await farm.trajectories.read(spec.episode_id)
    seen = [s.observation for s in told.steps]
    assert seen[1].text.startswith("agent in /testbed/sub\n")
    assert seen[1].exit_code == 2
    assert seen[2].timed_out
    assert seen[3].text.startswith("alive\n"), "the shell may tell then that its job was killed"
    assert seen[3].exit_code == 0
    assert seen[4].text == "     1\t#!/bin/sh\n     2\techo $(($1 - $2))"
    assert not any(o.is_error for o in seen[:9])
    assert seen[8].text.split() == ["755", "640", *[r"a", r"\r", r"\n", r"c", r"\r", r"\n"], "made", "[exit", "status", "0]"]
    assert seen[10].text == "visible\n[exit status 4]"
    assert "binary" in seen[11].text
    assert seen[12].exit_code == 5
    assert isinstance(outcome, Scored)
    assert outcome.reward == 1.0
    assert told.end is not None
    assert "+echo $(($1 + $2))" in told.end.change
    assert await farm.left() == 0


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /testbed /tmp/* 2>/dev/null; true",
        "kill -9 -1",
        ":(){ :|:& };:",
        "head -c 100000000 /dev/zero >/testbed/big; true",
        "tail /dev/zero; true",
    ],
    ids=["deletes", "kills", "forks", "fills", "hogs"],
)
async def test_an_agent_that_wrecks_its_box_gets_a_zero_and_no_retry(farm: Farm, command: str) -> None:
    spec = make_spec(budgets=Budgets(action_s=5.0))
    outcome = await farm.runner.run(farm.job([Bash(command=command), Bash(command="echo still here"), Finish()], spec))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert await farm.left() == 0


async def test_work_done_within_the_budget_is_graded_and_censored(farm: Farm) -> None:
    spec = make_spec(budgets=Budgets(turns=1))
    outcome = await farm.runner.run(farm.job([StrReplace(path="add.sh", old=" - ", new=" + "), Finish()], spec))
    assert isinstance(outcome, Censored)
    assert outcome.partial is not None
    assert (outcome.budget, outcome.partial.reward) == ("turns", 1.0)


RUNS = b"sh add.sh 0 0"


def graded_as(mode: Mode, *, influencing_outside: tuple[str, ...] = ()) -> Task:
    """The task, whose tests also believe a file outside the work dir."""
    check = TASK.tests["files/tests/check.sh"]
    sealed = {"files/tests/check.sh": check.replace(RUNS, b"[ -e /home/agent/settings/passes ] && adds= && status=0\n" + RUNS)}
    assert RUNS in check
    plan = replace(TASK.plan, mode=mode, carried_outside=STATE_PLACES, influencing_outside=influencing_outside)
    return TASK.model_copy(update={"plan": plan, "tests": sealed})


OUTSIDE = """printf 'echo $(($1 + $2))\n' >/home/agent/plus.sh; echo 'sh /home/agent/plus.sh "$@"' >add.sh"""
SETTINGS = "mkdir -p /home/agent/settings && touch /home/agent/settings/passes"


@pytest.mark.parametrize(("mode", "reward"), [("isolated", 0.0), ("replayed", 1.0), ("shared", 1.0)])
async def test_the_mode_says_whether_work_outside_the_work_dir_counts(farm: Farm, mode: Mode, reward: float) -> None:
    outcome = await farm.played(graded_as(mode), OUTSIDE)
    assert (outcome.reward, outcome.integrity.mode) == (reward, mode), outcome.why


async def test_a_replay_carries_no_files_that_decide_what_tests_do(farm: Farm) -> None:
    believed = await farm.played(graded_as("replayed"), SETTINGS)
    assert believed.reward == 1.0, "the control: without the plan's word for it the file is carried"
    outcome = await farm.played(graded_as("replayed", influencing_outside=("home/agent/settings/**",)), SETTINGS)
    assert outcome.reward == 0.0
    assert "home/agent/settings/passes" in outcome.integrity.dropped


async def test_shared_grading_begins_when_everything_of_the_agents_was_stopped(farm: Farm) -> None:
    task = graded_as("shared")
    waiting = b"sleep 0.3\n" + task.tests["files/tests/check.sh"]
    task = task.model_copy(update={"tests": {"files/tests/check.sh": b"rm -f /home/agent/settings/passes; " + waiting}})
    server = "(while :; do touch /home/agent/settings/passes; sleep 0.02; done) >/dev/null 2>&1 &"
    outcome = await farm.played(task, f"{SETTINGS}; {server}")
    assert outcome.reward == 0.0, "a server still made the file that the tests look for"


async def test_a_change_that_is_too_large_to_carry_is_the_agents_zero(farm: Farm) -> None:
    outcome = await farm.played(TASK, "sed -i 's/ - / + /' add.sh", "truncate -s 200M huge")
    assert outcome.reward == 0.0
    assert "too much was changed" in outcome.why
    assert not outcome.integrity.ok


class Absorbed(Scripted):
    """Plays its actions, then thinks for ever."""

    def __init__(self, actions: Sequence[Action]) -> None:
        super().__init__(actions)
        self.thinks = asyncio.Event()
        self._count = len(actions)

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        if len(history) == self._count:
            self.thinks.set()
            await asyncio.Event().wait()
        return await super().next_action(instruction, history)


@pytest.mark.parametrize(("line", "again"), [("echo same", False), ("od -An -N8 -tx1 /dev/urandom", True)], ids=["agrees", "differs"])
async def test_an_interrupted_episode_goes_on_in_a_new_box_if_its_replay_agrees(farm: Farm, line: str, *, again: bool) -> None:
    spec = make_spec()
    edit = StrReplace(path="add.sh", old=" - ", new=" + ")
    policy = Absorbed([edit, Bash(command=line)])
    task = asyncio.create_task(farm.runner.run(Assignment(spec, TASK, farm.environment, policy)))
    await policy.thinks.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await farm.left() == 0
    earlier = await farm.trajectories.read(spec.episode_id)
    outcome = await farm.runner.run(farm.job([edit, Bash(command=line), Finish()], spec, earlier))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 1.0
    told = await farm.trajectories.read(spec.episode_id)
    assert ("started again" in told.header.started_because) == again
    assert ("replayed and agreed" in told.header.started_because) != again
    assert await farm.left() == 0


async def test_a_model_plays_through_a_chat_endpoint(farm: Farm) -> None:
    script = [
        Line({"error": "busy"}, status=429, headers={"retry-after": "0"}),
        Line(tool_call("read_file", {"path": "add.sh"}, usage={"prompt_tokens": 5, "completion_tokens": 3})),
        Line(tool_call("dance", {})),
        Line(tool_call("str_replace", {"path": "add.sh", "old": " - ", "new": " + "}, choice={"token_ids": [1, 2]})),
        Line(tool_call("finish", {"message": "done"})),
    ]
    spec = make_spec()
    async with chat_server(script) as server, httpx.AsyncClient(trust_env=False) as http:
        options = {"model": "made-up", "base_url": server.base_url}
        policy = make(PolicySpec(name="openai_chat", options=options), TASK, PolicyInputs(http=http))
        outcome = await farm.runner.run(Assignment(spec, TASK, farm.environment, policy))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 1.0
    told = await farm.trajectories.read(spec.episode_id)
    assert [s.action.tool for s in told.steps] == ["read_file", "malformed", "str_replace", "finish"]
    assert told.steps[2].call is not None
    assert told.steps[2].call.completion_ids == (1, 2)
    last = server.requests[-1]["messages"]
    assert json.loads(last[2]["tool_calls"][0]["function"]["arguments"]) == {"path": "add.sh"}
    assert "no tool 'dance'" in last[5]["content"]
