"""Tasks brought into a farm elsewhere and played there, as a person does it: two homes, and one of them serves."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.program.conftest import NAME
from tests.integration.program.process import envfarm, press_ctrl_c, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, subprocess.Popen[bytes]]]:
    """Another farm, empty: its address and token."""
    home = Path("/var/tmp") / tmp_path_factory.mktemp("elsewhere").name
    with started(home, "serve", "--port", "0") as process:
        assert process.stdout is not None
        url, token = (process.stdout.readline().decode().split(" ", 1)[1].strip() for _ in range(2))
        yield url, token, process
        press_ctrl_c(process)
    subprocess.run(["rm", "-rf", str(home)], check=True)


def test_tasks_are_pushed_and_played_there(farm: tuple[str, str, object], farm_home: Path, home: Path) -> None:
    url, token, _ = farm
    told = envfarm(farm_home, "tasks", "push", "adder", "--server", url, ENVFARM_TOKEN=token)
    assert told.status == 0, told.err
    assert told.out.splitlines()[1].split("\t")[0] == NAME
    assert f"envfarm run adder --server {url}" in told.err
    assert envfarm(farm_home, "tasks", "push", "adder", "--server", url, ENVFARM_TOKEN=token).status == 0
    # Whoever runs needs nothing of the task here.
    words = ("run", "adder", "--server", url, "--policy", "gold", "--policy", "nop", "--group", "3")
    played = envfarm(home, *words, ENVFARM_TOKEN=token)
    assert played.status == 0, played.err
    lines = [line.split("\t") for line in played.out.splitlines()]
    assert lines[0] == ["episode", "task", "policy", "outcome", "why"]
    assert sorted((line[1], line[2], line[3]) for line in lines[1:]) == [(NAME, "gold", "1"), (NAME, "gold", "1"), (NAME, "nop", "0")]
    assert played.err.count("episodes ") == 3
    again = envfarm(home, *words, ENVFARM_TOKEN=token)
    assert again.out == played.out  # the same episodes: nothing was played twice
    assert envfarm(home, *words, "--run", "another", ENVFARM_TOKEN=token).out != played.out


def test_what_is_wrong_is_told_before_anything_is_asked(farm: tuple[str, str, object], home: Path, tmp_path: Path) -> None:
    url, token, _ = farm
    for words, error, more in (
        (("run", "adder", "--server", url), "needs a token", {}),
        (("run", "adder", "--server", url), "the token is not known", {"ENVFARM_TOKEN": "wrong"}),
        (("run", "adder", "--server", url), "cannot be read", {"ENVFARM_TOKEN_FILE": str(tmp_path / "none")}),
        (("run", "adder", "--server", "farm.example"), "must begin with http", {}),
        (("run", "--server", url), "name tasks", {}),
        (("run", "adder", "--server", url, "--sandbox", "local"), "--sandbox is for boxes of this machine", {}),
        (("run", "adder", "--server", url, "--policy", "scripted:a={task}"), "one policy", {"ENVFARM_TOKEN": token}),
        (("run", "adder", "--server", url), "no task 'adder'", {"ENVFARM_TOKEN": token}),
        (("run", "--all", "--server", url), "has no valid task", {"ENVFARM_TOKEN": token}),
    ):
        told = envfarm(home, *words, **more)
        assert error in told.error, told.err
        assert told.hint
