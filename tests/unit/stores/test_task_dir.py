from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envfarm.core import digest
from envfarm.core.errors import TaskError
from envfarm.core.plan import Canary
from envfarm.core.task import Task
from envfarm.stores import task_dir, toml_text
from envfarm.testing import small_task


def odd_task() -> Task:
    task = small_task.make()
    return task.model_copy(
        update={
            "instruction": 'Tabs\t, "quotes", \\ and \x7f, ünï\r\nno end',
            "keywords": ("a", 'b"c'),
            "checkout": "sha256:" + "1" * 64,
            "solution": {**task.solution, "deep/patch.diff": b"\xff\x00\r\n"},
            "tests": {**task.tests, "canaries/0-0.py": b"x = '{token}'\r\n", "files/tests/data.bin": bytes(range(256))},
        }
    )


def task_of_kinds() -> Task:
    task = small_task.make()
    files = ("tests/test_labels.py", "tests/add.sh", "tests/now")
    plan = replace(task.plan, test_files=files, executable_files=("tests/add.sh",), linked_files=("tests/now",))
    return task.model_copy(update={"plan": plan, "tests": {**task.tests, "files/tests/add.sh": b"#!", "files/tests/now": b"../README.md"}})


def test_a_files_kind_is_part_of_the_tasks_identity() -> None:
    task = task_of_kinds()
    plain = task.model_copy(update={"plan": replace(task.plan, executable_files=())})
    assert task.digest != plain.digest


@pytest.mark.parametrize("task", [small_task.make(), odd_task(), task_of_kinds()], ids=["plain", "odd", "kinds"])
def test_what_is_written_is_read(task: Task, tmp_path: Path) -> None:
    task_dir.write(task, tmp_path / "t", {"tests/test.sh": b"#!/bin/sh\n", "environment/Dockerfile": b"FROM x\n", "README.md": b""})
    again = task_dir.read(tmp_path / "t")
    assert again == task
    assert again.digest == task.digest
    assert (tmp_path / "t/solution/solve.sh").stat().st_mode & 0o777 == 0o755


def test_a_name_that_is_not_utf8_is_refused() -> None:
    task, name = small_task.make(), "tests/d\udce9.txt"
    planned = task.model_copy(update={"plan": replace(task.plan, removed_files=(name,))})
    sealed = task.model_copy(update={"tests": {**task.tests, f"files/{name}": b""}})
    for strange in (planned, sealed):
        with pytest.raises(TaskError, match="not UTF-8") as refused:
            task_dir.to_files(strange)
        assert str(refused.value).encode()


def test_a_task_of_an_older_farm_is_the_same_task() -> None:
    task = small_task.make()
    head = task.model_dump()
    head["plan"]["parallel"] = False
    assert Task.model_validate(head) == task
    files = task_dir.to_files(task)
    old = files["tests/plan.json"].replace(b'"mode"', b'"parallel": false,\n "mode"')
    files["task.toml"] = files["task.toml"].replace(digest.of_bytes(files["tests/plan.json"]).encode(), digest.of_bytes(old).encode())
    assert task_dir.from_files({**files, "tests/plan.json": old}) == task


def damaged(name: str, old: str, new: str | None) -> dict[str, bytes]:
    files = task_dir.to_files(small_task.make())
    if new is None:
        del files[name]
    else:
        assert old in files[name].decode()
        files[name] = files[name].decode().replace(old, new).encode()
    return files


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("task.toml", "", None, "task.toml is missing"),
        ("task.toml", "[task]", "[task", "task.toml is not TOML"),
        ("task.toml", 'schema_version = "1.4"', 'schema_version = "9"', "schema_version is '9'"),
        ("task.toml", 'kind = "repo"', 'kind = "tea"', "task.toml: kind"),
        ("task.toml", 'kind = "repo"\n', "", "task.toml: kind: Field required"),
        ("task.toml", 'kind = "repo"', 'kind = "repo"\ncolour = "red"', "unknown keys: colour"),
        ("task.toml", "[metadata.envfarm]", "[metadata.other]", r"\[metadata.envfarm\] is missing|metadata.envfarm"),
        ("task.toml", "pids = 512", "pids = 'x'", "limits.pids"),
        ("instruction.md", "", None, "instruction.md is missing"),
        ("solution/solve.sh", "", None, "solution/solve.sh is missing"),
        ("tests/plan.json", "", None, "tests/plan.json is missing"),
        ("tests/plan.json", '"fail_to_pass"', '"fail_to_fail"', "fail_to_fail"),
        ("tests/plan.json", '"fail_to_pass": [', '"fail_to_pass": [3,', "tests/plan.json: plan.fail_to_pass is not a list of texts"),
        ("tests/files/tests/test_labels.py", "", None, "test_files names tests/files/tests/test_labels.py, which is not there"),
        ("environment/recipe.json", "", None, "recipe.json is missing"),
        ("environment/recipe.json", '"work_dir"', '"work_dur"', "recipe.json: work_dur"),
        ("environment/recipe.json", "3.11", "3.12", "metadata.envfarm.recipe names another digest"),
    ],
)
def test_an_error_names_the_file_and_the_key(name: str, old: str, new: str | None, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        task_dir.from_files(damaged(name, old, new))


def with_canary(**changed: Any) -> Task:
    task = small_task.make()
    canary = Canary("inverted", "0-0.py", "tests/test_{token}.py", "tests/test_{token}.py::test_{token}")
    tests = {**task.tests, "canaries/0-0.py": b"def test_{token}(): assert 0\n"}
    return task.model_copy(update={"plan": replace(task.plan, canaries=(canary,), **changed), "tests": tests})


def test_a_canary_needs_its_template_and_a_command_that_takes_it() -> None:
    files = task_dir.to_files(with_canary())
    assert task_dir.from_files(files) == with_canary()
    del files["tests/canaries/0-0.py"]
    with pytest.raises(TaskError, match=r"canaries names tests/canaries/0-0\.py, which is not there"):
        task_dir.from_files(files)
    deaf = replace(small_task.make().plan.commands[0], argv=("pytest", "--junitxml={report}"))
    with pytest.raises(TaskError, match=r"no command takes \{canaries\}"):
        task_dir.from_files(task_dir.to_files(with_canary(commands=(deaf,))))


@pytest.mark.parametrize("name", ["tests/extra.py", "notes.txt", "solutions/x"])
def test_a_file_without_a_place_is_named(name: str) -> None:
    with pytest.raises(TaskError, match=name):
        task_dir.from_files({**task_dir.to_files(small_task.make()), name: b""})


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a//./b", ""])
def test_a_path_that_leaves_is_refused(path: str) -> None:
    task = small_task.make()
    with pytest.raises(TaskError, match="no path inside a task"):
        task_dir.to_files(task.model_copy(update={"solution": {**task.solution, path: b""}}))


def test_a_link_is_refused(tmp_path: Path) -> None:
    task_dir.write(small_task.make(), tmp_path / "t")
    (tmp_path / "t/tests/files/link").symlink_to("/etc/passwd")
    with pytest.raises(TaskError, match="not a plain file"):
        task_dir.read(tmp_path / "t")


def test_a_directory_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(TaskError, match="not empty"):
        task_dir.write(small_task.make(), tmp_path)


def test_toml_refuses_what_it_cannot_say() -> None:
    with pytest.raises(TypeError):
        toml_text.dump({"a": None})
