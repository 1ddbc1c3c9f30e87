"""Export to Terminal-Bench: the files that its harness reads, and the effect of the scripts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from envfarm.core import outcome
from envfarm.core import plan as plans
from envfarm.core.errors import TaskError
from envfarm.grading import verifier
from envfarm.images.dockerfile import SYSTEM_PATH
from envfarm.testing import small_task
from envfarm.testing.factories import make_scored
from task_builders.formats import terminal_bench

SUMMARY = "short test summary info"


def exported(directory: Path, **changes: object) -> Path:
    task = small_task.make().model_copy(update=changes)
    terminal_bench.export(task, directory / "t", uv_version="0.9.0", checkout=b"archive")
    return directory / "t"


def test_the_harness_finds_what_it_reads(tmp_path: Path) -> None:
    found = exported(tmp_path)
    task = small_task.make()
    head = yaml.safe_load((found / "task.yaml").read_text())
    assert head["instruction"] == task.instruction
    assert (head["parser_name"], head["difficulty"], head["run_tests_in_same_shell"]) == ("pytest", "unknown", False)
    assert head["max_test_timeout_sec"] > 0
    (service,) = yaml.safe_load((found / "docker-compose.yaml").read_text())["services"].items()
    assert (service[0], service[1]["command"]) == ("client", ["sleep", "infinity"])
    assert plans.TestPlan.from_json((found / "tests/plan.json").read_text()) == task.plan
    assert (found / "checkout.tar").read_bytes() == b"archive"
    dockerfile = (found / "Dockerfile").read_text()
    assert "tmux" in dockerfile
    assert "asciinema" in dockerfile
    for script in ("run-tests.sh", "solution.sh"):
        assert (found / script).stat().st_mode & 0o111


def test_licence_author_and_address_travel_with_every_copy(tmp_path: Path) -> None:
    found, named = exported(tmp_path), small_task.make().attribution
    text, head = (found / "README.md").read_text(), (found / "task.yaml").read_text()
    for said in (text, head):
        assert named.licence in said
        assert named.url in said


def test_the_solution_is_one_file_and_brings_what_it_needs(tmp_path: Path) -> None:
    solve = b'#!/bin/sh\ncp "$(dirname "$0")/deep/program" "$PWD/solve"\n'
    found = exported(tmp_path, solution={"solve.sh": solve, "deep/program": b"it's\0\xff binary\n"})
    (tmp_path / "elsewhere").mkdir()
    subprocess.run(["/bin/bash", found / "solution.sh"], cwd=tmp_path / "elsewhere", check=True)
    assert (tmp_path / "elsewhere/solve").read_bytes() == b"it's\0\xff binary\n"


@pytest.mark.parametrize("reward", [1.0, 0.0])
def test_the_summary_is_what_pytest_prints(tmp_path: Path, reward: float) -> None:
    found = exported(tmp_path)
    report = outcome.TestReport(fail_to_pass={"case::a - b": True, "case::c": False}, pass_to_pass={"x.py::y": True})
    details = verifier.details(make_scored(reward, report=report))
    (tmp_path / "details.json").write_text(json.dumps(details))
    (tmp_path / "reward.json").write_text(json.dumps({"reward": reward}))
    run = subprocess.run([sys.executable, "-I", found / "tests/summary.py", tmp_path], capture_output=True, text=True, check=False)
    head, *lines = run.stdout.splitlines()
    assert SUMMARY in head
    assert lines == [
        "PASSED tests::case::a-b",
        "FAILED tests::case::c",
        "PASSED tests::x.py::y",
        f"{'PASSED' if reward else 'FAILED'} tests::the whole",
    ]
    assert run.returncode == (0 if reward else 1)


def test_root_finds_no_program_where_the_agent_may_write(tmp_path: Path) -> None:
    found, agents = exported(tmp_path), tmp_path / "agents"
    agents.mkdir()
    for name in ("mktemp", "env", "id", "python3", "sh"):
        (agents / name).write_text(f"#!/bin/sh\n/bin/echo {name} >> {tmp_path}/fooled\nexit 0\n")
        (agents / name).chmod(0o755)
    (found / "tests/verifier.pyz").write_text("import os\nprint(os.environ['PATH'])\nraise SystemExit(2)\n")
    env = {"PATH": f"{agents}:/usr/bin:/bin", "HOME": str(agents), "PYTHON": sys.executable, "TEST_DIR": str(found / "tests")}
    run = subprocess.run(["/bin/sh", found / "run-tests.sh"], env=env, capture_output=True, text=True, check=False)
    assert not (tmp_path / "fooled").exists()
    assert (run.returncode, run.stdout) == (2, "/usr/sbin:/usr/bin:/sbin:/bin\n")


def test_the_image_leads_root_nowhere_and_the_agents_shell_to_its_own(tmp_path: Path) -> None:
    lines = (exported(tmp_path) / "Dockerfile").read_text().splitlines()
    variables = [line for line in lines if line.startswith(("ENV PATH", "ENV HOME"))]
    assert variables[-1] == f'ENV PATH="{SYSTEM_PATH}" HOME=""'
    assert lines[-1] == "USER 1000:1000"
    profile = json.loads(lines[-2].removeprefix("RUN "))[-1]
    seen = subprocess.run(
        ["/bin/sh", "-c", f'id() {{ echo "$1"; }}\n{profile}echo "$HOME $PATH"'],
        env={"HOME": "/root", "PATH": "/bin"},
        capture_output=True,
        check=True,
    )
    assert seen.stdout == b"/root /bin\n"
    of_agent = profile.replace("$(id -u)", "1000")
    seen = subprocess.run(
        ["/bin/sh", "-c", f'{of_agent}echo "$HOME $PATH"'], env={"HOME": "/", "PATH": "/bin"}, capture_output=True, check=True
    )
    assert seen.stdout.decode() == f"/home/agent {small_task.recipe().env['PATH']}\n"


def test_state_outside_the_work_dir_cannot_be_exported(tmp_path: Path) -> None:
    plan = small_task.make().plan
    outside = plans.TestPlan.from_json(json.dumps({**json.loads(plan.to_json()), "mode": "replayed", "carried_outside": ["srv/**"]}))
    with pytest.raises(TaskError):
        exported(tmp_path, plan=outside)
