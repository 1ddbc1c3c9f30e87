"""What a grading runs, decided by the time that the taken environment's suite took."""

# ruff: noqa: ARG002 - fakes keep the signatures of the contracts

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.core import digest, plan
from envfarm.core.candidate import Candidate
from envfarm.core.recipe import Recipe
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.testing.blobs import MemoryBlobs
from task_builders.environment_attempts import Budget
from task_builders.environment_memory import EnvironmentMemory
from task_builders.environments import Workshop
from task_builders.languages.project import Project
from task_builders.preparing import WHOLE_SUITE_S, Prepared, Preparer
from task_builders.sources.git import GitRepository
from tests.unit.test_environments import DATE, FakeBox, FakeRooms, ToyProfile, read, recipe


@dataclass
class SlowRooms(FakeRooms):
    """Rooms whose suites take a time of their own, by a recipe's first step."""

    takes_s: Mapping[str, float] = field(default_factory=dict)

    async def create(self, spec: SandboxSpec) -> FakeBox:
        rooms, name = self, spec.environment.image.reference

        class Slow(FakeBox):
            async def exec(self, request: ExecRequest) -> ExecResult:
                rooms.seconds += rooms.takes_s[name]
                return await super().exec(request)

        return Slow(self.suites[name], self.closed)


class Naming(ToyProfile):
    def commands(self, project: Project, recipe: Recipe, test_files: Sequence[str]) -> tuple[plan.TestCommand, ...]:
        return (plan.TestCommand(("run", "{report}", *test_files), "toy", 10.0, {}),)


def two_commits(place: Path) -> tuple[GitRepository, list[str]]:
    def git(*words: str) -> str:
        argv = ["git", "-C", str(place), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for n in range(2):
        (place / "test_m.toy").write_text(str(n))
        git("add", "-A")
        git("commit", "-qm", "one")
        commits.append(git("rev-parse", "HEAD"))
    return GitRepository(place), commits


async def commands_of(memory: Path, made: tuple[GitRepository, list[str]], first_s: float, second_s: float) -> list[tuple[str, ...]]:
    """The plan's commands, where the first recipe is better than the second, which is tried last."""
    repository, (base, fix) = made
    rooms = SlowRooms({"first": b"p" * 19 + b"f", "second": b"p" * 9 + b"f"}, takes_s={"first": first_s, "second": second_s})
    profile = Naming([recipe("first"), recipe("second")])
    workshop = Workshop(rooms, rooms, EnvironmentMemory(memory), rooms, (), read, Budget())
    candidate = Candidate(
        source_digest=digest.of_bytes(b"made up"),
        repository="made/up",
        name="made/up-1",
        url="https://example.org/1",
        language="toy",
        instruction="Do it.",
        licence="MIT",
        created_at=DATE,
        base_commit=base,
        fix_commit=fix,
        source_patch="",
        test_patch="",
        source_paths=(),
        test_paths=("test_m.toy",),
    )
    prepared = await Preparer(workshop, profile, MemoryBlobs()).prepare(candidate, repository, lambda _: None)
    assert isinstance(prepared, Prepared)
    assert prepared.attempts == 2
    assert prepared.footing.recipe == recipe("first")
    return [command.argv for command in prepared.footing.commands]


async def test_a_suite_that_takes_long_in_the_taken_environment_is_not_run_whole(tmp_path: Path) -> None:
    long_s, short_s = WHOLE_SUITE_S + 10, WHOLE_SUITE_S - 10
    (tmp_path / "repository").mkdir()
    made = two_commits(tmp_path / "repository")
    assert await commands_of(tmp_path / "slow", made, long_s, short_s) == [("run", "{report}", "test_m.toy")]
    assert await commands_of(tmp_path / "quick", made, short_s, long_s) == [("run", "{report}")]
