"""Small made-up objects for tests: a task, an episode, an outcome, … Every field can be given; the others have plausible values."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from envfarm.core import digest, ids
from envfarm.core.action import Finish
from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.episode import Budgets, EpisodeSpec, PolicySpec
from envfarm.core.ids import Digest, RunId, TaskDigest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.observation import Observation
from envfarm.core.outcome import Integrity, Outcome, Scored, TestReport
from envfarm.core.plan import TestCommand, TestPlan
from envfarm.core.protocols import Box
from envfarm.core.recipe import Recipe, Toolchain
from envfarm.core.sandbox import NOBODY, Holder
from envfarm.core.task import Attribution, Task
from envfarm.core.trajectory import Step
from envfarm.core.usage import Bill
from envfarm.core.validation import REQUIRED_GATES, GateResult

LONG_AGO = datetime(2024, 5, 17, 12, 0, tzinfo=UTC)


@dataclass
class HeldClock:
    """A clock that moves only when it is set."""

    seconds: float = 0.0

    def now(self) -> datetime:
        """Wall time."""
        return LONG_AGO + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        """Seconds since its creation."""
        return self.seconds


@dataclass
class CannedGrader:
    """A grader that returns given outcomes, and records its calls."""

    outcomes: list[Outcome | Exception] = field(default_factory=list)
    """Returned in order; the last one is repeated. Empty: a full score."""
    changes: list[Change] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    """Agents' own boxes in which it was asked to grade."""
    holders: list[Holder] = field(default_factory=list)

    async def grade_in_place(self, task: Task, box: Box, change: Change, *, environment: Environment) -> Outcome:
        """Return the next outcome, recording the box."""
        self.boxes.append(box)
        return await self.grade(task, change, environment=environment)

    async def grade(
        self,
        task: Task,  # noqa: ARG002 - part of the contract
        change: Change,
        *,
        environment: Environment,  # noqa: ARG002 - part of the contract
        holder: Holder = NOBODY,
        bill: Bill | None = None,  # noqa: ARG002 - part of the contract
    ) -> Outcome:
        """Return the next outcome."""
        self.holders.append(holder)
        self.changes.append(change)
        if not self.outcomes:
            return make_scored(1.0)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def make_plan(**fields: Any) -> TestPlan:
    """A plan of one pytest command."""
    command = TestCommand(
        argv=("python", "-m", "pytest", "--junitxml={report}", "tests/test_sum.py", "{canaries}"),
        report="junit",
        timeout_s=60.0,
        env={"PYTHONHASHSEED": "0"},
    )
    defaults: dict[str, Any] = {
        "work_dir": "/testbed",
        "commands": (command,),
        "fail_to_pass": ("tests/test_sum.py::test_sum",),
        "pass_to_pass": ("tests/test_sum.py::test_zero",),
        "test_files": ("tests/test_sum.py",),
    }
    return TestPlan(**{**defaults, **fields})


def passed_gates(*but: GateResult) -> tuple[GateResult, ...]:
    """All gates that make a task valid, passed, except those replaced by these results."""
    said = {result.gate: result for result in but}
    return tuple(said.get(gate) or GateResult(gate=gate, passed=True) for gate in Gate if gate in REQUIRED_GATES)


def make_recipe(**fields: Any) -> Recipe:
    """A recipe with only Python."""
    defaults: dict[str, Any] = {
        "language": "python",
        "toolchain": Toolchain(name="python", version="3.11"),
        "dependencies": (),
        "resolved_at": LONG_AGO,
    }
    return Recipe(**{**defaults, **fields})


def make_task(**fields: Any) -> Task:
    """A small Python task."""
    defaults: dict[str, Any] = {
        "name": "made-up/sum",
        "kind": "repo",
        "language": "python",
        "instruction": "Make `add` add.",
        "created_at": LONG_AGO,
        "attribution": Attribution(licence="MIT", url="https://example.org/made-up"),
        "recipe": make_recipe(),
        "plan": make_plan(),
        "solution": {"solve.sh": b"#!/bin/sh\necho fixed > sum.txt\n"},
        "tests": {"files/tests/test_sum.py": b"def test_sum(): pass\n"},
    }
    return Task(**{**defaults, **fields})


def make_environment(**fields: Any) -> Environment:
    """An environment on top of the host."""
    defaults: dict[str, Any] = {"image": ImageRef(kind="host", digest=Digest(digest.of_bytes(b"host"))), "work_dir": "/testbed"}
    return Environment(**{**defaults, **fields})


def make_spec(member: int = 0, *, run: str = "run-1", task: TaskDigest | None = None, **fields: Any) -> EpisodeSpec:
    """An episode of a run."""
    task = task or TaskDigest(digest.of_bytes(b"task"))
    defaults: dict[str, Any] = {
        "episode_id": ids.episode_id(RunId(run), task, member),
        "run_id": RunId(run),
        "task": task,
        "member": member,
        "policy": PolicySpec(name="nop"),
        "budgets": Budgets(),
    }
    return EpisodeSpec(**{**defaults, **fields})


def make_scored(reward: float = 1.0, **fields: Any) -> Scored:
    """A plausible score."""
    defaults: dict[str, Any] = {
        "components": {"f2p": reward, "p2p": 1.0, "integrity": 1.0},
        "report": TestReport(),
        "integrity": Integrity("isolated"),
        "why": "every expected test passes" if reward else "a test fails",
    }
    return Scored(reward=reward, **{**defaults, **fields})


def make_step(index: int = 0, **fields: Any) -> Step:
    """A step with the action `finish`."""
    from_fields: dict[str, Any] = {
        "index": index,
        "action": Finish(),
        "observation": Observation(text=""),
        "started_at": LONG_AGO,
        "duration_s": 0.5,
        "observation_digest": "sha256:0",
    }
    return Step(**{**from_fields, **fields})
