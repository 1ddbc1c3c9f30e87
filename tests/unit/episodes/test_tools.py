"""The tools over a box whose commands are real processes in a temporary directory."""

import itertools
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core import plan
from envfarm.core.action import Action, Bash, Finish, ReadFile, RunTests, StrReplace
from envfarm.core.errors import BoxBroken, BoxLost, SandboxError
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.episodes import tools
from envfarm.episodes.events import ActionTimedOut, Observed
from envfarm.episodes.tools import Call, Tools, suite, visible_argv
from envfarm.testing.factories import make_environment, make_plan, make_task
from envfarm.testing.scripted_box import ScriptedBox, run_on_host
from task_builders.specs import make

NUMBERS = itertools.count()


@pytest.fixture
def box(tmp_path: Path) -> ScriptedBox:
    return ScriptedBox(SandboxSpec(environment=make_environment()), run_on_host(tmp_path))


@pytest.fixture
def belt(box: ScriptedBox, tmp_path: Path) -> Tools:
    return Tools(box, make_plan(work_dir=str(tmp_path)))


async def observed(belt: Tools, action: Action) -> Observed:
    seen = await belt.run(action, Call(f"e.0.{next(NUMBERS)}", 10.0))
    assert isinstance(seen, Observed)
    return seen


async def refused(belt: Tools, action: Action) -> str:
    seen = await observed(belt, action)
    assert seen.is_error
    assert seen.text.startswith("Error: ")
    return seen.text


async def test_bash_tells_both_streams_and_the_status(belt: Tools) -> None:
    seen = await observed(belt, Bash(command="echo out; echo err >&2; exit 3"))
    assert seen.text == "out\nerr\n[exit status 3]"
    assert seen.exit_code == 3
    assert not seen.is_error


async def test_bash_runs_in_the_episodes_shell_under_the_actions_id(belt: Tools, box: ScriptedBox) -> None:
    await belt.run(Bash(command="true"), Call("e.0.7", 5.0))
    (request,) = box.requests
    assert (request.session, request.exec_id, request.timeout_s, request.user) == ("agent", "e.0.7", 5.0, "agent")


async def test_output_that_is_no_utf8_becomes_text(belt: Tools) -> None:
    seen = await observed(belt, Bash(command=r"printf 'a\377b'"))
    assert seen.text == "a\N{REPLACEMENT CHARACTER}b\n[exit status 0]"


async def test_a_command_killed_by_a_signal_says_so(belt: Tools) -> None:
    seen = await observed(belt, Bash(command="kill -9 $$"))
    assert seen.text == "[killed by signal 9]"
    assert seen.exit_code is None


async def test_a_command_over_its_time_is_an_event_of_its_own(belt: Tools) -> None:
    seen = await belt.run(Bash(command="echo begun; sleep 30"), Call("e.0.0", 0.2))
    assert isinstance(seen, ActionTimedOut)
    assert seen.text == "begun\n[timed out after 0 s; the command was killed]"


async def test_a_limit_that_was_hit_is_told() -> None:
    async def answer(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=None, signal=9, stdout=b"x", truncated=True, limit_hit="memory")

    belt = Tools(ScriptedBox(SandboxSpec(environment=make_environment()), answer), make_plan())
    seen = await observed(belt, Bash(command="hog"))
    assert "over the box's limit of memory" in seen.text
    assert "dropped the middle" in seen.text
    assert seen.truncated


@pytest.mark.parametrize("command", ["", "  \n", "a\0b"])
async def test_commands_that_are_none_are_refused(belt: Tools, command: str) -> None:
    await refused(belt, Bash(command=command))


async def test_a_file_is_shown_with_line_numbers(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text("a\n  b\n")
    assert (await observed(belt, ReadFile(path="f.txt"))).text == "     1\ta\n     2\t  b"


async def test_a_part_of_a_file_says_which(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("".join(f"{n}\n" for n in range(1, 101)))
    seen = await observed(belt, ReadFile(path=str(tmp_path / "f"), start_line=98, line_count=2))
    assert seen.text == "    98\t98\n    99\t99\n[lines 98-99 of 100]"


async def test_a_last_line_without_an_end_counts(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a\nb")
    assert (await observed(belt, ReadFile(path="f"))).text == "     1\ta\n     2\tb"


async def test_reading_behind_the_end_says_how_long_the_file_is(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a\nb\n")
    assert "has 2 lines; `start_line` is 50" in await refused(belt, ReadFile(path="f", start_line=50))


async def test_an_empty_file_is_said_to_be_empty(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    assert (await observed(belt, ReadFile(path="f"))).text == "[f is empty]"


async def test_what_cannot_be_read_says_why(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    assert "no such file" in await refused(belt, ReadFile(path="missing"))
    assert "a directory" in await refused(belt, ReadFile(path="."))
    assert "a dangling symbolic link" in await refused(belt, ReadFile(path="dangling"))
    assert "not a regular file" in await refused(belt, ReadFile(path="pipe"))
    assert "a binary file of 6 bytes" in await refused(belt, ReadFile(path="program"))
    assert "invalid path" in await refused(belt, ReadFile(path=""))
    assert "invalid path" in await refused(belt, ReadFile(path="a\0b"))
    assert "begin at 1" in await refused(belt, ReadFile(path="x", start_line=0))
    assert "invalid character" in await refused(belt, ReadFile(path="\ud800"))


async def test_a_large_file_is_read_in_pages(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"0123456789\n" * 300_000)
    seen = await observed(belt, ReadFile(path="big", start_line=299_999, line_count=400))
    assert seen.text.endswith("[lines 299999-300000 of 300000]")
    whole = await observed(belt, ReadFile(path="big", line_count=300_000))
    assert whole.truncated
    assert "at most 1000000 bytes" in whole.text


@pytest.mark.parametrize("name", ["with space", "quote'\"", "-n", "new\nline", "ünï", "$(id)", "*"])
async def test_odd_names_are_names(belt: Tools, tmp_path: Path, name: str) -> None:
    assert (await observed(belt, StrReplace(path=name, old="", new="one\n"))).text.startswith("Created")
    await observed(belt, StrReplace(path=name, old="one", new="two"))
    assert (tmp_path / name).read_text() == "two\n"
    assert (await observed(belt, ReadFile(path=name))).text == "     1\ttwo"


async def test_a_replacement_keeps_mode_links_and_encoding(belt: Tools, tmp_path: Path) -> None:
    target = tmp_path / "tool.sh"
    target.write_bytes(b"#!/bin/sh\r\necho \xe4\r\n")
    target.chmod(0o751)
    os.link(target, tmp_path / "hard")
    (tmp_path / "soft").symlink_to("tool.sh")
    seen = await observed(belt, StrReplace(path="soft", old="echo ", new="printf '%s'\necho "))
    assert "Replaced 1 occurrence in soft, line 2" in seen.text
    assert target.read_bytes() == b"#!/bin/sh\r\nprintf '%s'\r\necho \xe4\r\n"
    assert stat.S_IMODE(target.stat().st_mode) == 0o751
    assert (tmp_path / "soft").is_symlink()
    assert (tmp_path / "hard").read_bytes() == target.read_bytes()


async def test_replacements_that_cannot_be_made_change_nothing(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x = 1\nx = 1\n")
    (tmp_path / "program").write_bytes(b"a\0b")
    (tmp_path / "big").write_bytes(b"x" * (tools.FILE_BYTES + 1))
    assert "occurs 2 times (at lines 1, 2)" in await refused(belt, StrReplace(path="f", old="x = 1", new="y"))
    assert "does not occur" in await refused(belt, StrReplace(path="f", old="z", new="y"))
    assert "no such file" in await refused(belt, StrReplace(path="g", old="z", new="y"))
    assert "binary" in await refused(belt, StrReplace(path="program", old="a", new="y"))
    assert "larger than" in await refused(belt, StrReplace(path="big", old="a", new="y"))
    assert "a directory" in await refused(belt, StrReplace(path=".", old="a", new="y"))
    assert (tmp_path / "f").read_text() == "x = 1\nx = 1\n"


async def test_a_new_file_is_made_with_its_directories_but_never_over_another(belt: Tools, tmp_path: Path) -> None:
    assert (await observed(belt, StrReplace(path="a/b/c.py", old="", new="x = 1\n"))).text == "Created a/b/c.py (6 bytes)."
    assert (tmp_path / "a/b/c.py").read_text() == "x = 1\n"
    assert "already exists" in await refused(belt, StrReplace(path="a/b/c.py", old="", new="y"))
    (tmp_path / "empty").touch()
    assert not (await observed(belt, StrReplace(path="empty", old="", new="y"))).is_error
    assert "could not be created" in await refused(belt, StrReplace(path="a/b/c.py/d", old="", new="y"))
    assert "a directory" in await refused(belt, StrReplace(path="a", old="", new="y"))
    assert "invalid character" in await refused(belt, StrReplace(path="x", old="", new="\ud800"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
async def test_files_without_permission_are_named(belt: Tools, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a")
    (tmp_path / "f").chmod(0o444)
    assert "not writable" in await refused(belt, StrReplace(path="f", old="a", new="b"))
    (tmp_path / "f").chmod(0)
    assert "not readable" in await refused(belt, ReadFile(path="f"))


async def test_visible_tests_run_the_plans_command_in_the_work_dir(box: ScriptedBox, tmp_path: Path) -> None:
    command = plan.TestCommand(
        argv=("sh", "-c", 'echo "$PWD" "$FLAG" "$@"', "sh", "{canaries}"), report="junit", timeout_s=9.0, env={"FLAG": "on"}
    )
    belt = Tools(box, make_plan(work_dir=str(tmp_path), commands=(command,)))
    seen = await observed(belt, RunTests(paths=("tests/a.py",)))
    assert seen.text == f"{tmp_path} on tests/a.py\n[exit status 0]"
    assert "invalid path" in await refused(belt, RunTests(paths=("--collect-only",)))


def minted(work_dir: str = "/testbed") -> plan.TestPlan:
    """A plan as minting leaves it, which names every file: one of the sealed ones is in the agent's tree, the other is new with the fix."""
    argv = ("sh", "-c", 'echo "$@"', "sh", "--junitxml={report}", "-m", "quick", "tests", "{canaries}")
    whole = plan.TestCommand(argv=argv, report="junit", timeout_s=9.0, env={})
    narrow = replace(whole, argv=(*argv[:-2], "tests/test_known.py", "tests/test_new.py", "{canaries}"))
    task = make_task(
        plan=make_plan(
            work_dir=work_dir,
            commands=(whole,),
            fail_to_pass=("tests/test_known.py::test_a", "tests/test_new.py::test_b"),
            pass_to_pass=("tests/test_other.py::test_c", "tests/test_known.py::test_d"),
            test_files=("tests/test_known.py", "tests/test_new.py"),
        )
    )
    return make.naming_every_file(task, (narrow,)).plan


async def test_all_tests_are_those_of_the_agents_tree(box: ScriptedBox, tmp_path: Path) -> None:
    belt = Tools(box, minted(str(tmp_path)))
    (tmp_path / "tests").mkdir()
    for name in ("test_known.py", "test_other.py"):
        (tmp_path / "tests" / name).touch()
    seen = await observed(belt, RunTests())
    assert seen.text.splitlines()[0] == f"--junitxml={tools.VISIBLE_REPORT} -m quick tests/test_known.py tests/test_other.py"


async def test_paths_take_the_place_of_every_file_that_the_plan_names(box: ScriptedBox, tmp_path: Path) -> None:
    seen = await observed(Tools(box, minted(str(tmp_path))), RunTests(paths=("tests/test_mine.py",)))
    assert seen.text.splitlines()[0] == f"--junitxml={tools.VISIBLE_REPORT} -m quick tests/test_mine.py"


def test_a_command_that_names_sealed_files_alone_is_run_without_names() -> None:
    assert suite(make_plan()) == ()
    assert suite(minted()) == ("tests/test_known.py", "tests/test_new.py", "tests/test_other.py")
    assert visible_argv(make_plan(), ()) == ("python", "-m", "pytest", f"--junitxml={tools.VISIBLE_REPORT}")
    assert visible_argv(make_plan(), ("tests/x.py",))[-1] == "tests/x.py"
    absolute = plan.TestCommand(argv=("run", "/testbed/tests/test_sum.py::test_sum", "-v"), report="junit", timeout_s=1.0, env={})
    assert suite(make_plan(commands=(absolute,))) == ()
    assert visible_argv(make_plan(commands=(absolute,)), ("y",)) == ("run", "y", "-v")


async def test_a_task_without_a_command_has_no_visible_tests(box: ScriptedBox) -> None:
    assert "no test command" in await refused(Tools(box, make_plan(commands=())), RunTests())


async def test_a_refusal_of_the_box_is_told_but_its_end_is_raised(belt: Tools, box: ScriptedBox) -> None:
    box.fail("exec", SandboxError("no such directory: /testbed"))
    assert "no such directory" in await refused(belt, Bash(command="ls"))
    box.fail("exec", BoxLost("node gone"))
    with pytest.raises(BoxLost):
        await belt.run(Bash(command="ls"), Call("e.0.1", 1.0))
    box.fail("exec", BoxBroken("silent"))
    with pytest.raises(BoxBroken):
        await belt.run(Bash(command="ls"), Call("e.0.2", 1.0))


async def test_finish_is_not_the_boxs_business(belt: Tools) -> None:
    with pytest.raises(ValueError, match="finish"):
        await belt.run(Finish(), Call("e.0.0", 1.0))
