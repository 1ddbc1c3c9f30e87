"""The catalogue and its runs, as a person meets them who mistypes, whose files are damaged and whose endpoint is down."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from envfarm.testing.chat_server import Line, chat_server, completion, tool_call
from tests.integration.program.conftest import NAME
from tests.integration.program.process import envfarm, in_thread, press_ctrl_c, started

pytestmark = pytest.mark.timeout(180)


# The catalogue


def test_task_that_is_not_there_brings_near_names_to_mind(farm_home: Path) -> None:
    told = envfarm(farm_home, "tasks", "show", "addre")
    assert told.status == 2
    assert f"did you mean {NAME}?" in told.error
    assert "envfarm tasks list" in told.hint


def test_damaged_archive_is_named_and_the_rest_goes_on(farm_home: Path, tmp_path: Path, home: Path) -> None:
    exported = tmp_path / "out"
    assert envfarm(farm_home, "tasks", "export", "adder", "--format", "envfarm", "--to", exported).status == 0
    assert envfarm(home, "tasks", "import", exported / "adder-aaaa1111").status == 0
    (archive,) = (home / "catalogue/archives").glob("*/*.tar.zst")
    archive.write_bytes(archive.read_bytes()[:100])
    told = envfarm(home, "run", "adder")
    assert told.status == 1
    assert str(archive) in told.error
    assert "delete the file" in told.hint
    assert envfarm(home, "tasks", "list", "--state", "any").status == 0
    assert envfarm(home, "tasks", "reindex").status == 1
    assert envfarm(home, "tasks", "import", exported / "adder-aaaa1111").status == 0
    assert envfarm(home, "tasks", "show", "adder").status == 0


def test_task_goes_out_and_comes_in_as_it_was(farm_home: Path, tmp_path: Path, home: Path) -> None:
    told = envfarm(farm_home, "tasks", "export", "adder", "--to", tmp_path / "harbor")
    assert told.status == 0
    directory = tmp_path / "harbor/adder-aaaa1111"
    assert (directory / "environment/Dockerfile").exists()
    assert "no-network" in (directory / "task.toml").read_text()
    told = envfarm(home, "tasks", "import", directory)
    assert told.status == 0
    assert told.out.splitlines()[1].split("\t")[::2] == [NAME, "unchecked"]
    here, there = (envfarm(h, "tasks", "list", "--state", "any").out.splitlines()[1].split("\t")[1] for h in (farm_home, home))
    assert here == there


def test_an_edited_task_is_told_so_that_it_is_found_beside_the_one_of_its_name(farm_home: Path, tmp_path: Path, home: Path) -> None:
    assert envfarm(farm_home, "tasks", "export", "adder", "--to", tmp_path / "out").status == 0
    directory = tmp_path / "out/adder-aaaa1111"
    assert envfarm(home, "tasks", "import", directory).status == 0
    (directory / "instruction.md").write_text("Make it add.\n")
    told = envfarm(home, "tasks", "import", directory)
    named = told.err.partition("envfarm tasks validate ")[2]
    assert "Make it add." in envfarm(home, "tasks", "show", named.strip()).out


def test_nothing_is_written_over_and_nothing_half_is_left(farm_home: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    told = envfarm(farm_home, "tasks", "export", "adder", "--to", tmp_path / "full")
    assert (told.status, [p.name for p in (tmp_path / "full").iterdir()]) == (2, ["mine.txt"])
    assert "is not empty" in told.error
    told = envfarm(farm_home, "tasks", "export", "adder", "nothing", "--to", tmp_path / "new")
    assert told.status == 2
    assert not (tmp_path / "new").exists()
    (blob,) = (farm_home / "blobs").glob("*/*.zst")
    kept = blob.read_bytes()
    blob.write_bytes(b"nonsense")
    try:
        told = envfarm(farm_home, "tasks", "export", "adder", "--to", tmp_path / "new")
    finally:
        blob.write_bytes(kept)
    assert told.status == 1
    assert str(blob) in told.error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("missing", ["task.toml", "instruction.md", "tests/plan.json", "solution/solve.sh", "environment/checkout.tar"])
def test_directory_with_a_missing_file_names_it(farm_home: Path, tmp_path: Path, home: Path, missing: str) -> None:
    assert envfarm(farm_home, "tasks", "export", "adder", "--format", "envfarm", "--to", tmp_path / "out").status == 0
    directory = tmp_path / "out/adder-aaaa1111"
    (directory / missing).unlink()
    told = envfarm(home, "tasks", "import", directory)
    assert told.status == 1
    assert missing in told.error
    assert str(directory) in told.error
    assert told.hint
    assert "no task matches" in envfarm(home, "tasks", "list", "--state", "any").err


# Runs


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("golden", "there is no policy 'golden'"),
        ("gold:x=1", "policy gold takes no options"),
        ("openai_chat:model=m,tempo=3", "`tempo` is not an option"),
        ("openai_chat", "`model` is missing"),
        ("openai_chat:model=m,max_tokens=many", "policy openai_chat: `max_tokens`: Input should be a valid integer"),
        ("openai_chat:model=m,base_url=example", "'example' is not an http(s) address"),
        ("openai_chat:model", "'model' is not key=value"),
        ("scripted:file=/nowhere.json", "/nowhere.json: No such file"),
    ],
)
def test_policy_that_makes_no_sense_is_told_before_anything_runs(farm_home: Path, policy: str, words: str) -> None:
    before = envfarm(farm_home, "runs")
    told = envfarm(farm_home, "run", "adder", "--policy", policy)
    assert told.status == 2
    assert words in told.error
    assert envfarm(farm_home, "runs") == before


def test_a_quarantined_task_is_not_played_and_an_unchecked_one_is_told_of(farm_home: Path) -> None:
    envfarm(farm_home, "tasks", "quarantine", "adder", "--why", "its tests are wrong")
    told = envfarm(farm_home, "run", "adder", "--run", "kept-away")
    assert (told.status, told.error) == (2, f"error: {NAME} is quarantined: its tests are wrong")
    assert f"quarantine {NAME} --lift" in told.hint
    envfarm(farm_home, "tasks", "quarantine", "adder", "--lift")
    told = envfarm(farm_home, "run", "adder", "--run", "let-in", "--policy", "nop")
    assert told.status == 0, told.err
    assert "not all of these tasks are valid: 1 unchecked; " in told.err


@pytest.mark.parametrize("option", [("--policies", "gold"), ("--group", "none"), ("--sandbox", "moon"), ("--parallel", "0")])
def test_option_that_makes_no_sense_is_told_with_where_to_look(farm_home: Path, option: tuple[str, str]) -> None:
    told = envfarm(farm_home, "run", "adder", *option)
    assert told.status == 2
    assert option[0] in told.error
    assert told.hint == "hint: see `envfarm run --help`"


@pytest.mark.parametrize("more", [(), ("--server", "http://127.0.0.1:9")])
def test_a_run_that_cannot_be_named_so_is_told_before_a_box_is_made(farm_home: Path, more: tuple[str, ...]) -> None:
    before = envfarm(farm_home, "runs")
    told = envfarm(farm_home, "run", "adder", "--run", "bad name/with slash", *more)
    assert (told.status, told.error) == (2, "error: --run bad name/with slash: not a run's name")
    assert "`-`" in told.hint
    assert envfarm(farm_home, "runs") == before


def test_a_budget_that_is_none_is_told(farm_home: Path) -> None:
    told = envfarm(farm_home, "run", "adder", "--seconds", "inf")
    assert (told.status, told.error.startswith("error: --seconds inf: ")) == (2, True)


def test_scored_and_censored_episodes_are_a_success(farm_home: Path) -> None:
    told = envfarm(farm_home, "run", "adder", "--run", "good", "--policy", "gold", "--policy", "nop")
    assert told.status == 0, told.err
    assert [line.split("\t")[3] for line in told.out.splitlines()[1:]] == ["1", "0"]
    told = envfarm(farm_home, "run", "adder", "--run", "cut", "--turns", "1")
    assert told.status == 0, told.err
    assert "censored (turns)" in told.out
    listed = envfarm(farm_home, "episode", "list", "--run", "good").out
    nop = next(line.split("\t")[0] for line in listed.splitlines() if "\tnop\t" in line)
    shown = envfarm(farm_home, "episode", "show", nop).out
    assert "the agent changed nothing" in shown
    assert "reward 0: " in shown
    assert "failed: tests/check.sh::adds" in shown
    cut = envfarm(farm_home, "episode", "list", "--run", "cut").out.splitlines()[1].split("\t")[0]
    assert "censored: the budget of turns ran out" in envfarm(farm_home, "episode", "show", cut).out
    runs = {line.split("\t")[0]: line.split("\t") for line in envfarm(farm_home, "runs").out.splitlines()}
    assert runs["good"][2:] == ["0.500", "2 done"]


DOWN = "http://127.0.0.1:9/v1"


FAILURES: Mapping[str, Line | None] = {
    "ConnectError": None,
    "no answer in": Line(completion({"content": ""}), delay_s=30),
    "not JSON": Line(b"<html>it works!</html>"),
    "no choices": Line({"object": "list"}),
    "no such model": Line({"error": "no such model"}, status=404),
    "disconnected": Line(hang_up=True),
}
"""What an endpoint answers, if one is there at all, by what is told of it."""


async def test_endpoint_that_fails_makes_episodes_invalid_and_never_zero(farm_home: Path) -> None:
    async with AsyncExitStack() as held:
        servers = [await held.enter_async_context(chat_server([line])) for line in FAILURES.values() if line]
        urls = [DOWN, *(server.base_url for server in servers)]
        policies = [f"--policy=openai_chat:model=m,base_url={url},patience.tries=1,patience.timeout_s=0.5" for url in urls]
        told = await in_thread(farm_home, "run", "adder", "--run", "failing", *policies)
    assert told.status == 1
    rows = [line.split("\t") for line in told.out.splitlines()[1:]]
    assert [row[3] for row in rows] == ["invalid (endpoint)"] * len(FAILURES)
    assert sorted([words for words in FAILURES if words in row[4]] for row in rows) == sorted([words] for words in FAILURES)
    assert told.error == "error: 6 of 6 episodes ended without a verdict (infrastructure failure, not a reward of 0)"
    assert "--retry-invalid" in told.hint
    for episode, *_ in rows:
        shown = await in_thread(farm_home, "episode", "show", episode)
        assert "invalid, and not a zero: the policy's endpoint failed" in shown.out
    listed = await in_thread(farm_home, "runs")
    assert [row.split("\t")[2:] for row in listed.out.splitlines() if row.startswith("failing\t")] == [["", "6 invalid"]]


async def test_a_policy_whose_endpoint_refuses_is_given_up_and_the_same_command_goes_on(farm_home: Path) -> None:
    finish = Line(tool_call("finish", {"message": "done"}))
    async with chat_server([*[Line({"error": "bad key"}, status=401)] * 3, finish]) as server:
        policy = f"openai_chat:model=m,base_url={server.base_url}"
        arguments = ("run", "adder", "--run", "bad-key", "--group", "5", "--parallel", "1", "--policy", policy)
        told = await in_thread(farm_home, *arguments)
        again = await in_thread(farm_home, *arguments, "--retry-invalid")
    assert told.status == 1
    assert [line.split("\t")[3] for line in told.out.splitlines()[1:]] == ["invalid (endpoint)"] * 3 + ["not finished"] * 2
    assert "error: the endpoint of openai_chat refused every episode so far; 2 further episodes not run: http" in told.err
    assert "error: 3 of 5 episodes ended without a verdict" in told.err
    assert "another process" not in told.err
    assert "--retry-invalid" in told.hint
    assert [line.split("\t")[3] for line in again.out.splitlines()[1:]] == ["0"] * 5


async def test_an_invalid_episode_is_played_again_when_that_is_asked_for(farm_home: Path) -> None:
    down, finish = Line({"error": "no such model"}, status=404), Line(tool_call("finish", {"message": "done"}))
    async with chat_server([down, finish]) as server:
        policy = f"openai_chat:model=m,base_url={server.base_url},patience.tries=1"
        arguments = ("run", "adder", "--run", "outage", "--policy", policy)
        told = [await in_thread(farm_home, *arguments, *more) for more in ((), (), ("--retry-invalid",), ("--retry-invalid",))]
        asked = len(server.requests)
    assert [t.status for t in told] == [1, 1, 0, 0], told[2].err
    assert [t.out.splitlines()[1].split("\t")[3] for t in told] == ["invalid (endpoint)", "invalid (endpoint)", "0", "0"]
    assert asked == 2, "a refusal is not tried again, and what has its verdict is not played again"


async def test_ctrl_c_during_a_run_keeps_it_and_the_same_command_ends_it(farm_home: Path) -> None:
    finish = Line(tool_call("finish", {"message": "done"}))
    async with chat_server([Line(delay_s=100), finish]) as server:
        arguments = ("run", "adder", "--run", "stopped", "--policy", f"openai_chat:model=m,base_url={server.base_url}")
        with started(farm_home, *arguments) as process:
            while not server.requests:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.05)
            told = await asyncio.to_thread(press_ctrl_c, process)
        assert told.status == 130
        assert "the same command continues from there" in told.err
        assert "not finished" in told.out
        again = await in_thread(farm_home, *arguments)
    assert again.status == 0, again.err
    assert again.out.splitlines()[1].split("\t")[3] == "0"


def test_episode_that_is_not_there(farm_home: Path) -> None:
    for command in ("show", "export"):
        told = envfarm(farm_home, "episode", command, "run-none.000000000000.0000")
        assert told.status == 2
        assert "no episode" in told.error
        assert "envfarm runs" in told.hint
    assert "no run 'none'" in envfarm(farm_home, "episode", "list", "--run", "none").error
