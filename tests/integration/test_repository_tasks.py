"""Tasks about repositories: their instructions, and programs in drawn repositories. Uses this machine's git, without a box."""

import shutil
import subprocess
from pathlib import Path

import pytest

from envfarm.core.change import Change
from envfarm.core.task import Task
from envfarm.grading import outputs
from task_builders.questions import repositories, starting
from task_builders.questions.git_commands import Role
from task_builders.questions.repositories import FOLDER, Needs
from task_builders.questions.trial import Decided, Trial
from task_builders.questions.understanding import Understood, understand
from task_builders.terminal import derived_programs, make, repository_words, sufficiency
from task_builders.validation.attacks.attack import Context
from tests.unit.questions.asked import pre, question

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
TITLE = "How do I start a branch where I am, and keep the work that I have not committed?"
ASKED = question(
    "<p>I am on a branch with changes.</p>", pre("git switch -c <new>") + pre("git checkout -b <new>"), title=TITLE, tags=("git",)
)
CONTEXT = Context(work_dir="/app", fail_to_pass=(), pass_to_pass=(), test_files=(), source_files=(), site_packages="", python="")


def printed(place: Path, *argv: str) -> str:
    return subprocess.run(argv, cwd=place, capture_output=True, text=True, check=True).stdout


def played(place: Path, task: Task, n: int, before: str = "") -> tuple[int, bytes]:
    """Run the plan's command in a directory with a case's inputs; returns its status and the output to compare."""
    case = task.plan.cases[n]
    for path in case.inputs:
        (place / path).write_bytes(task.tests[f"cases/{case.folder}/input/{path}"])
    argv = [str(place / ".output") if word == "{report}" else word for word in task.plan.commands[0].argv]
    done = subprocess.run(["/bin/sh", "-c", before], cwd=place, check=True, capture_output=True) if before else None
    assert done is None or done.returncode == 0
    status = subprocess.run(argv, cwd=place, check=False, capture_output=True).returncode
    return status, (place / ".output").read_bytes()


def left(place: Path, change: Change) -> Path:
    place.mkdir()
    for each in change.files:
        path = place / each.path.removeprefix("app/")
        path.write_bytes(each.content or b"")
        path.chmod(each.mode)
    return place


@pytest.fixture
def task(tmp_path: Path) -> Task:
    found = understand(ASKED)
    assert isinstance(found, Understood)
    made = {"visible": found.inputs, **{each.name: each.inputs for each in found.variants[:2]}}
    program = "#!/bin/bash\n" + found.solutions[0].program.text
    decided = {name: Decided(inputs=tuple(map(tuple, inputs)), output="", by="") for name, inputs in made.items() if name != "visible"}
    trial = Trial(runs=(), reproduced=True, program=program, output="", decided=decided)
    bare = make.task(ASKED, found, trial, make.recipe(found, "3.11.9"), "example/git-abc")
    place = left(tmp_path / "right", derived_programs.program(program))
    told = [played(place, bare, n) for n in range(3)]
    assert [status for status, _ in told] == [0, 0, 0]
    tests = {f"cases/{n:02d}/expected": output for n, (_, output) in enumerate(told)}
    shown = make.instruction(ASKED, found, trial.model_copy(update={"output": told[0][1].decode()}))
    return bare.model_copy(update={"tests": {**bare.tests, **tests}, "instruction": shown})


def expected(task: Task, n: int) -> bytes:
    return task.tests[f"cases/{n:02d}/expected"]


def test_the_instruction_says_how_a_repository_is_made_and_what_counts(task: Task) -> None:
    for said in (
        "`sh /app/repository.sh`",
        "`/app/repository`",
        "`/app/new-branch` holds the name that a new branch is to have",
        "Hashes and times",
    ):
        assert said in task.instruction
    assert "git switch" not in task.instruction
    assert sufficiency.untold(task) == {}
    assert len({expected(task, n) for n in range(3)}) == 3


def test_equal_programs_leave_the_same_and_wrong_ones_do_not(tmp_path: Path, task: Task) -> None:
    for name, change in derived_programs.equivalents(task).items():
        assert played(left(tmp_path / name.replace(" ", "-"), change), task, 1) == (0, expected(task, 1))
    wrong = derived_programs.mutants(task)
    assert len(wrong) >= 6
    for name, change in wrong.items():
        status, output = played(left(tmp_path / name.replace(" ", "-"), change), task, 1)
        assert status or not outputs.same(expected(task, 1), output, "lines"), name


@pytest.mark.parametrize("name", ["prints the visible output", "knows the visible input"])
def test_the_visible_state_serves_an_agent_there_alone(tmp_path: Path, task: Task, name: str) -> None:
    attack = next(each for each in derived_programs.attacks(task) if each.name == name)
    place = left(tmp_path / "attacked", Change(()))
    assert played(place, task, 0, attack.craft(CONTEXT).script) == (0, expected(task, 0))
    assert not outputs.same(expected(task, 1), played(place, task, 1)[1], "lines")


@pytest.mark.parametrize("seed", range(3))
def test_a_repository_is_made_the_same_each_time_and_has_what_commands_name(tmp_path: Path, seed: int) -> None:
    needs = Needs(
        current="main",
        branches=("topic",),
        files=("app.js",),
        remote_branches=("origin/far",),
        parameters=(("commit", Role.COMMIT), ("branch", Role.BRANCH), ("file", Role.FILE)),
    )
    made = []
    for place in (tmp_path / "one", tmp_path / "two"):
        place.mkdir()
        for each in repositories.draw(needs, seed):
            (place / each.name).write_text(each.text)
        (place / "solve").write_text("#!/bin/sh\n:\n")
        (place / "solve").chmod(0o755)
        made.append(printed(place, "/bin/sh", "-c", starting.shell("repository", "solve", "")))
        assert (place / "commit").read_text() == printed(place / FOLDER, "git", "rev-parse", "HEAD~3")
    assert made[0] == made[1]
    told = made[0].splitlines()
    assert told[0] == "checked out: main"
    assert sum(line.startswith("stash: ") for line in told) == 2
    assert any(line.startswith("commits of refs/heads/topic: ") for line in told)
    assert any(line.startswith("commits of refs/remotes/origin/far: ") for line in told)
    assert any(line.startswith("in the index app.js: ") for line in told)
    given = [each.text for each in repositories.draw(needs, seed)]
    assert sufficiency.unheard(made[0], given, repository_words.STATE) == []
