"""The verifier archive, run as a program of its own, as Harbor's verifier container runs it: by root, or by whoever runs these tests.

As root it stops everything of uid 1000 that it sees, so it gets a process namespace to itself here, as a container has one.
"""

import gzip
import importlib.metadata
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from envfarm.core.plan import Canary
from envfarm.core.task import Task
from envfarm.stores import task_dir
from envfarm.testing import small_task
from task_builders.formats import harbor, verifier_archive

IS_ROOT = os.geteuid() == 0
AGENT = 1000
MEMORY_BYTES = 384 << 20
ALONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
TEMPLATE = """from shelf.labels import slug


def test_{{token}}_one():
    assert slug("Old   Maps") == "{}"


def test_{{token}}_two():
    assert slug("Old-Maps  of sea") == "{}"


def test_{{token}}_one_again():
    assert slug("Old   Maps") == "{}"


def test_{{token}}_two_again():
    assert slug("Old-Maps  of sea") == "{}"
"""
VALUES = (("old-maps", "old-sea"), ("old-sea", "old-maps-of-sea"))
ORIGINS = ("tests/test_labels.py::test_slug_of_many_spaces", "tests/test_labels.py::TestDashes::test_kept_within")
CANARIES = tuple(
    Canary(
        "inverted" if n != k else "renamed",
        f"{n}.py",
        "tests/test_{token}.py",
        f"tests/test_{{token}}.py::test_{{token}}_{x}",
        origin,
        secret=True,
    )
    for n in range(2)
    for k, origin in enumerate(ORIGINS)
    for x in (("one", "one_again"), ("two", "two_again"))[k]
)
OF_CONTAINER = {"PATH": os.defpath, "PYTEST_ADDOPTS": "--collect-only", "TOKEN_OF_THE_RUNNER": "0"}
"""The variables of the process that starts the verifier: none may reach the tests."""
EMPTY: Mapping[str, str] = {}
RUNNER = ("pytest", "pluggy", "iniconfig", "packaging", "pygments", "exceptiongroup", "tomli")


def may_be_alone() -> bool:
    return shutil.which(ALONE[0]) is not None and subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(IS_ROOT and not may_be_alone(), reason="root may not make a process namespace here")


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A folder that uid 1000 may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.fixture(scope="module")
def python() -> str:
    """An interpreter that the tests' user may run."""
    for candidate in (sys.executable, os.path.realpath(sys.executable), "/usr/local/bin/python3", "/usr/bin/python3"):
        asked = [candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]
        try:
            if subprocess.run(asked, check=False, capture_output=True, user=AGENT if IS_ROOT else None, cwd="/").returncode == 0:
                return candidate
        except OSError:
            continue
    pytest.skip("no Python here that uid 1000 may run")


@pytest.fixture(scope="module")
def packages(ground: Path) -> Path:
    """The test runner, where uid 1000 may read it."""
    site = ground / "site"
    for name in RUNNER:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in (f for f in files if ".." not in f.parts and f.suffix == ".py"):
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file.locate(), site / file)
    return site


@dataclass
class Verified:
    exit_code: int
    rewards: dict[str, float] | None
    details: dict[str, object]
    said: str
    work: Path


@pytest.fixture
def verify(ground: Path, python: str, packages: Path) -> Iterator[Callable[[str], Verified]]:
    """Verifies a tree whose only module reads as given."""
    with tempfile.TemporaryDirectory(dir=ground, prefix="run-") as made:
        place = Path(made)
        place.chmod(0o755)
        work = place / "work"
        _write(work, small_task.TREE)
        if IS_ROOT:
            for path in (work, *work.rglob("*")):
                os.chown(path, AGENT, AGENT)
        task = _written_task(work, python, packages)

        def verify(labels: str, *options: str, spoil: str = "", env: Mapping[str, str] = EMPTY, lacking: str = "") -> Verified:
            recipe = task.recipe.model_copy(update={"env": {**task.recipe.env, **env}})
            task_dir.write(task.model_copy(update={"recipe": recipe}), place / "task", verifier_archive.files(recipe))
            if lacking:
                (place / "task" / lacking).unlink()
            _collect(place, work, labels)
            if spoil:
                data = gzip.compress((place / "work.tar").read_bytes())
                (place / "work.tar").unlink()
                (place / "work.tar").mkdir() if spoil == "folder" else (place / "work.tar").write_bytes(data[: len(data) // 2])
            command = [
                python,
                "-I",
                str(place / "task/tests/verifier.pyz"),
                "--archive",
                str(place / "work.tar"),
                "--out",
                str(place / "out"),
                *options,
            ]
            argv = [*ALONE, *command] if IS_ROOT else command
            done = subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=100, env=OF_CONTAINER, preexec_fn=_with_little_memory
            )
            reward, details = place / "out/reward.json", place / "out/details.json"
            return Verified(
                done.returncode,
                json.loads(reward.read_text()) if reward.exists() else None,
                json.loads(details.read_text()) if details.exists() else {},
                done.stdout + done.stderr,
                work,
            )

        yield verify


def _with_little_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def _write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def _written_task(work: Path, python: str, packages: Path) -> Task:
    task = small_task.make(python)
    commands = tuple(replace(command, timeout_s=20.0) for command in task.plan.commands)
    plan = replace(task.plan, work_dir=str(work), canaries=CANARIES, commands=commands)
    sealed = {**task.tests, **{f"canaries/{n}.py": TEMPLATE.format(*values, *values).encode() for n, values in enumerate(VALUES)}}
    recipe = task.recipe.model_copy(update={"env": {**task.recipe.env, "PYTHONPATH": str(packages)}})
    return task.model_copy(update={"plan": plan, "tests": sealed, "recipe": recipe})


def _collect(place: Path, work: Path, labels: str) -> None:
    """What the agent left, as Harbor collects it."""
    left = place / "left" / str(work).strip("/")
    _write(left, {**small_task.TREE, "shelf/labels.py": labels, "tests/conftest.py": "raise SystemExit(1)\n"})
    with tarfile.open(place / "work.tar", "w") as tar:
        tar.add(place / "left", arcname=".")


def test_the_solution_scores_1(verify: Callable[[str], Verified]) -> None:
    seen = verify(small_task.FIXED)
    assert seen.rewards == {"reward": 1.0, "f2p": 1.0, "p2p": 1.0, "integrity": 1.0}, seen.said


NOTES = """
import sys
with open("seen", "a") as notes, open("tests/test_labels.py") as tests:
    print([a for a in sys.argv if a.startswith("tests/")], "many_spaces" in tests.read(), file=notes)
"""


def test_the_blind_rounds_are_those_of_the_farm_and_come_before_the_tests(verify: Callable[[str], Verified]) -> None:
    """Three of nearly four bits each, and none sees the sealed tests."""
    seen = verify(small_task.FIXED + NOTES)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said
    assert seen.details["exit_codes"] == [1] * 4
    *blind, tests = (seen.work / "seen").read_text().splitlines()
    assert len({*blind}) == 3, "a name of its own for each"
    assert all(line.endswith("False") for line in blind), "no sealed test is there yet"
    assert tests.endswith("True")


ONE_ANSWER = """
import sys
def slug(text, right=slug):
    return right(text) if "test_labels" in sys._getframe(1).f_code.co_filename else {"Old   Maps": "old-maps"}.get(text, "old-sea")
"""


def test_one_answer_to_all_copies_scores_0_whatever_is_drawn(verify: Callable[[str], Verified]) -> None:
    """Right in one of the two arrangements, and about the tests themselves. A further round asks of the other one."""
    seen = verify(small_task.FIXED + ONE_ANSWER)
    assert seen.rewards is not None, seen.said
    assert (seen.rewards["reward"], seen.details["fail_to_pass"]) == (0.0, dict.fromkeys(seen.details["fail_to_pass"], True)), seen.said  # type: ignore[call-overload]


def test_code_that_takes_its_time_in_every_round_scores_0_before_harbor_ends_the_verifier(verify: Callable[..., Verified]) -> None:
    seen = verify(small_task.FIXED + "\nimport time\ntime.sleep(2)\n", "--seconds", "3")
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 0.0
    assert len(seen.details["exit_codes"]) < 4  # type: ignore[arg-type]


OF_RECIPE = {"PYTEST_ADDOPTS": "-W ignore::DeprecationWarning", "SHELF_SETTINGS": "tests.settings", "LANG": "C.UTF-8"}
SEES_VARIABLES = """
import json, os
with open("variables", "w") as notes:
    json.dump(dict(os.environ), notes)
"""


def test_tests_see_the_variables_of_the_recipe_and_none_of_the_container(verify: Callable[..., Verified]) -> None:
    """As in the farm: a blank gives way to what the environment sets."""
    seen = verify(small_task.FIXED + SEES_VARIABLES, env=OF_RECIPE)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said
    variables = json.loads((seen.work / "variables").read_text())
    assert {name: variables.get(name) for name in OF_RECIPE} == OF_RECIPE
    assert "TOKEN_OF_THE_RUNNER" not in variables


def test_what_loads_into_a_runner_is_blank_where_the_recipe_does_not_set_it(verify: Callable[..., Verified]) -> None:
    seen = verify(small_task.FIXED + SEES_VARIABLES)
    variables = json.loads((seen.work / "variables").read_text())
    assert (variables["PYTEST_ADDOPTS"], variables["LD_PRELOAD"], variables["HOME"]) == ("", "", "/home/agent")


SETS_VARIABLES = """
import os, pathlib
for place in ("environment.json", "../task/tests/environment.json", ".profile", "/proc/1/environ"):
    try:
        pathlib.Path(place).write_text('{"PYTEST_ADDOPTS": "--collect-only"}')
    except OSError:
        pass
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root can close the folder to the tests")
def test_the_agents_code_changes_no_variable_of_a_later_command(verify: Callable[..., Verified]) -> None:
    seen = verify(small_task.FIXED + SETS_VARIABLES + SEES_VARIABLES)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said
    assert json.loads((seen.work / "variables").read_text())["PYTEST_ADDOPTS"] == ""


def test_a_verifier_without_the_environments_variables_gives_no_reward(verify: Callable[..., Verified]) -> None:
    seen = verify(small_task.FIXED, lacking="tests/environment.json")
    assert (seen.exit_code, seen.rewards) == (2, None)
    assert "environment.json" in seen.said


def test_nothing_scores_0(verify: Callable[[str], Verified]) -> None:
    seen = verify(small_task.LABELS)
    assert seen.rewards == {"reward": 0.0, "f2p": 0.0, "p2p": 1.0, "integrity": 1.0}, seen.said


def test_an_exported_verifier_has_time_for_every_round_and_ends_before_harbor_ends_it(tmp_path: Path) -> None:
    task = small_task.make()
    sealed = {**task.tests, **{f"canaries/{n}.py": b"" for n in range(2)}}
    disguised = task.model_copy(update={"plan": replace(task.plan, canaries=CANARIES), "tests": sealed})
    for one, rounds in ((task, 1), (disguised, 3)):
        harbor.export(one, tmp_path / str(rounds), harbor.Options(uv_version="0.5.0"), checkout=None)
        seconds = rounds * task.limits.verifier_s
        assert f"verifier.pyz --seconds {seconds:g}\n" in (tmp_path / str(rounds) / "tests/test.sh").read_text()
        head = tomllib.loads((tmp_path / str(rounds) / "task.toml").read_text())
        assert head["verifier"]["timeout_sec"] > seconds


@pytest.mark.parametrize("spoil", ["torn", "folder"])
def test_an_archive_that_the_agent_spoilt_scores_0(verify: Callable[..., Verified], spoil: str) -> None:
    seen = verify(small_task.FIXED, spoil=spoil)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 0.0
    assert "cannot be read" in seen.said


@pytest.mark.skipif(not IS_ROOT, reason="only root can give the tests another user")
def test_the_tests_run_as_another_user_who_cannot_read_what_is_sealed(verify: Callable[[str], Verified]) -> None:
    look = "\nimport os\nopen('who', 'w').write(f\"{os.getuid()} {os.access('../task/tests', os.R_OK)} {os.access('../out', os.W_OK)}\")\n"
    seen = verify(small_task.FIXED + look)
    assert (seen.work / "who").read_text() == f"{AGENT} False False"


AT_EXIT = "\nimport atexit, os, shutil, subprocess, sys\natexit.register(lambda: {})\n"
REPORT = "next(a for a in open('/proc/self/cmdline').read().split(chr(0)) if a.startswith('--junit')).partition('=')[2]"
SPOILS = {
    "links the tests' folder elsewhere": AT_EXIT.format("(shutil.rmtree('tests'), os.symlink('/etc', 'tests'))"),
    "puts a folder in its report's place": AT_EXIT.format(f"(os.unlink({REPORT}), os.mkdir({REPORT}))"),
    "puts a pipe in its report's place": AT_EXIT.format(f"(os.unlink({REPORT}), os.mkfifo({REPORT}))"),
}


@pytest.mark.parametrize("code", SPOILS.values(), ids=SPOILS.keys())
def test_code_that_spoils_the_container_scores_0(verify: Callable[[str], Verified], code: str) -> None:
    seen = verify(small_task.FIXED + code)
    assert seen.exit_code == 0, seen.said
    assert seen.rewards is not None
    assert seen.rewards["reward"] == 0.0


REPORT_FOLDERS = f"""
import os
with open("folders", "a") as notes:
    print(os.path.dirname({REPORT}), file=notes)
with open("left", "a") as notes:
    print(sum(os.path.exists(folder) for folder in set(open("folders").read().split())), file=notes)
"""


def test_a_rounds_report_is_gone_when_the_next_round_begins(verify: Callable[[str], Verified]) -> None:
    seen = verify(small_task.FIXED + REPORT_FOLDERS)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said
    folders = (seen.work / "folders").read_text().split()
    assert len({*folders}) > 1
    assert {*(seen.work / "left").read_text().split()} == {"1"}, "each round sees its own folder alone"
    assert not [folder for folder in folders if Path(folder).exists()]


PIPE = "os.path.exists('done') or (open('done', 'w'), os.unlink('tests/test_labels.py'), os.mkfifo('tests/test_labels.py'))"


def test_a_pipe_in_a_tests_place_is_replaced(verify: Callable[[str], Verified]) -> None:
    """Root must not wait for somebody to read what it writes."""
    seen = verify(small_task.FIXED + AT_EXIT.format(PIPE))
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said


FLOOD = f"""
import os
held = [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists("/proc/self/fd/" + fd)]
pipe = next(int(fd) for fd in held if os.readlink("/proc/self/fd/" + fd).startswith("pipe:"))
for _ in range({2 * MEMORY_BYTES >> 20}):
    os.write(pipe, bytes(1 << 20))
"""


def test_output_without_end_is_not_held(verify: Callable[[str], Verified]) -> None:
    """Only its end is kept, of more than the verifier has memory for."""
    seen = verify(small_task.FIXED + FLOOD)
    assert seen.rewards is not None, seen.said
    assert seen.rewards["reward"] == 1.0, seen.said


DAEMON = """
import os, time
if os.path.exists("beat"):
    was = open("beat").read()
    time.sleep(0.3)
    if open("beat").read() != was:
        open("alive", "w").close()
elif os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    n = 0
    while True:
        n += 1
        with open("beat.new", "w") as beat:
            beat.write(str(n))
        os.rename("beat.new", "beat")
        time.sleep(0.02)
else:
    while not os.path.exists("beat"):
        time.sleep(0.01)
"""


@pytest.mark.skipif(not IS_ROOT, reason="another session is out of an ordinary user's reach")
def test_no_daemon_of_the_first_command_sees_the_second(verify: Callable[[str], Verified]) -> None:
    seen = verify(small_task.FIXED + DAEMON)
    assert (seen.work / "beat").exists(), seen.said
    assert not (seen.work / "alive").exists(), "it lived on"


STOPS = """
import subprocess, sys
from envfarm.grading import verifier_processes as v
def sleeper():
    return subprocess.Popen(["sleep", "60"], user=v.AGENT, group=v.AGENT, start_new_session=True)
before = sleeper()
spared = v.processes_to_spare(in_place=False)
after = sleeper()
left = v.stop_others(spared)
after.wait(timeout=5)
print(before.poll(), after.poll(), left)
"""


@pytest.mark.skipif(not IS_ROOT, reason="only root stops what is another user's")
def test_only_what_ran_before_the_first_command_is_spared_however_early_the_rest_began() -> None:
    done = subprocess.run([*ALONE, sys.executable, "-c", STOPS], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "None -9 []\n", done.stderr
