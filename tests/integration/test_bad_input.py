"""The whole program, as a person meets it who mistypes, whose disk is full, whose endpoint is down, and who presses Ctrl-C."""

import asyncio
import gzip
import hashlib
import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from envfarm.core.ids import TaskDigest
from envfarm.core.recipe import Recipe, Toolchain
from envfarm.settings import read
from envfarm.testing.chat_server import Line, chat_server, completion, tool_call
from envfarm.wiring import Farm
from tests.integration.sources.conftest import Asked, Reply, ScriptedServer, serving
from tests.integration.test_episodes_in_boxes import TASK, checkout

pytestmark = pytest.mark.timeout(180)

PROGRAM = (sys.executable, "-c", "from envfarm.cli.main import main; main()")
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
NAME = "acme/adder-aaaa1111"


@dataclass(frozen=True)
class Told:
    """What a person sees."""

    status: int
    out: str
    err: str

    def __post_init__(self) -> None:
        assert "Traceback" not in self.err + self.out, self.err
        assert "Exception ignored" not in self.err, self.err

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line

    @property
    def hint(self) -> str:
        return next(line for line in self.err.splitlines() if line.startswith("hint: "))


def arguments_of(home: Path, arguments: Sequence[str], **variables: str) -> list[str]:
    return ["env", f"ENVFARM_HOME={home}", *(f"{k}={v}" for k, v in variables.items()), *PROGRAM, *arguments]


def envfarm(home: Path, *arguments: object, **variables: str) -> Told:
    argv = arguments_of(home, [str(a) for a in arguments], **variables)
    done = subprocess.run(argv, capture_output=True, check=False, timeout=120, stdin=subprocess.DEVNULL)
    return Told(done.returncode, done.stdout.decode(), done.stderr.decode())


async def in_thread(home: Path, *arguments: object) -> Told:
    """For tests whose event loop serves what the program asks."""
    return await asyncio.to_thread(envfarm, home, *arguments)


@contextmanager
def started(home: Path, *arguments: str, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """The program at work, in a group of processes of its own, as a terminal gives it one."""
    argv = arguments_of(home, arguments, **variables)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def read_until(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if words in line.decode():
            return
    pytest.fail(f"it ended before it said {words!r}")


def press_ctrl_c(process: subprocess.Popen[bytes]) -> Told:
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Told(process.returncode, out.decode(), err.decode())


@pytest.fixture(scope="module")
def farm_home() -> Iterator[Path]:
    """A farm with one task that needs no network. Not below pytest's own directory: boxes of other users must see the layers."""
    home = Path(tempfile.mkdtemp(prefix="envfarm-test-", dir="/var/tmp"))
    home.chmod(0o755)
    asyncio.run(add_task(home))
    yield home
    shutil.rmtree(home, ignore_errors=True)


async def add_task(home: Path) -> TaskDigest:
    async with Farm(read().model_copy(update={"home": home})) as farm:
        blob = await farm.blobs.put(checkout())
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        toolchain = Toolchain(name="python", version=version)
        recipe = Recipe(language="python", toolchain=toolchain, dependencies=(), work_dir="/testbed", resolved_at=TASK.created_at)
        return await farm.catalogue.add(TASK.model_copy(update={"name": NAME, "recipe": recipe, "checkout": blob.digest}))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def git(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", *IDENTITY, "-C", str(repository), *arguments], check=True, capture_output=True)


def repository_without_tests(directory: Path) -> Path:
    directory.mkdir(parents=True)
    git(directory, "init", "-q")
    for number in range(2):
        (directory / "shelf.py").write_text(f"places = {number}\n")
        git(directory, "add", "-A")
        git(directory, "commit", "-q", "-m", f"Give every shelf {number} places\n\nThere were never enough of them for the maps.")
    return directory


def sources(directory: Path, repository: object) -> Path:
    path = directory / "sources.toml"
    path.write_text(f"[[source]]\nkind = \"git\"\nrepository = '''{repository}'''\ncommits = {{ newest = 5 }}\n")
    return path


# Sources


def test_repository_that_is_not_there(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, "nowhere"))
    assert told.status == 1
    assert told.error == f"error: `{tmp_path}/nowhere`: no such repository"
    assert "give a directory with a git repository" in told.hint


def test_repository_that_cannot_be_reached(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, "http://127.0.0.1:9/acme/shelf.git"))
    assert told.status == 1
    assert "cannot be fetched" in told.error
    assert "run again to go on" in told.hint


def test_repository_without_tests_gives_no_task_and_says_why(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, repository_without_tests(tmp_path / "shelf")))
    assert told.status == 0
    assert "the change touches no test" in told.out
    assert "no task came of these sources" in told.err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '[[source]]\nkind = "git"\nrepositry = "x"\ncommits = { newest = 3 }\n',
            "sources.toml:3: source[1].repositry: is not known: did you",
        ),
        ('[[source]]\nkind = "gti"\n', "`kind` is 'gti': did you mean `git`?"),
        ("[[source]\n", "sources.toml:1: "),
        ("", "there is no [[source]] in it"),
    ],
    ids=["key", "kind", "syntax", "empty"],
)
def test_sources_file_is_corrected_by_line_and_key(tmp_path: Path, home: Path, text: str, complaint: str) -> None:
    (tmp_path / "sources.toml").write_text(text)
    told = envfarm(home, "build", tmp_path / "sources.toml")
    assert told.status == 2
    assert complaint in told.err
    assert not home.exists()


@pytest.mark.parametrize(("name", "problem"), [("none.toml", "No such file"), (".", "Is a directory")])
def test_sources_file_that_cannot_be_read(tmp_path: Path, home: Path, name: str, problem: str) -> None:
    told = envfarm(home, "build", tmp_path / name)
    assert told.status == 2
    assert problem in told.error
    assert "name a TOML file" in told.hint


def test_odd_names_of_repositories_and_files_are_taken_as_they_are(tmp_path: Path, home: Path) -> None:
    repository = repository_without_tests(tmp_path / "ma ps – ünï'$x")
    (repository / os.fsdecode(b"\xff\xfe scan.txt")).write_text("x")
    (repository / 'two\nlines "q".txt').write_text("y")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Add the scans of the oldest maps")
    told = envfarm(home, "build", sources(tmp_path, repository))
    assert told.status == 0, told.err
    assert "ma ps – ünï'$x\t3\t" in told.out


def sdist(version: str, filler: int = 0) -> bytes:
    out = io.BytesIO()
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: frob\nVersion: {version}\nLicense-Expression: MIT\n".encode(),
        "frob.py": f"version = {version!r}\n".encode(),
        "data.bin": hashlib.shake_128(b"any").digest(filler),
    }
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"frob-{version}/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def publish(server: ScriptedServer, versions: dict[str, bytes]) -> None:
    files = [
        {
            "filename": f"frob-{version}.tar.gz",
            "url": f"../../files/frob-{version}.tar.gz",
            "hashes": {"sha256": hashlib.sha256(content).hexdigest()},
            "upload-time": f"2024-01-0{day}T00:00:00Z",
        }
        for day, (version, content) in enumerate(versions.items(), 1)
    ]
    body = {"meta": {"api-version": "1.1"}, "name": "frob", "files": files}
    server.on("/simple/frob/", Reply(body=body, headers={"Content-Type": "application/vnd.pypi.simple.v1+json"}))


def test_download_that_broke_off_goes_on_in_the_next_build(tmp_path: Path, home: Path) -> None:
    (tmp_path / "sources.toml").write_text('[[source]]\nkind = "releases"\npackage = "frob"\nnewest = 2\n')
    versions = {"1.0": sdist("1.0"), "1.1": sdist("1.1", 300_000)}
    whole, kept = versions["1.1"], 200_000
    octets = {"Content-Type": "application/octet-stream"}
    with serving(ScriptedServer()) as server:
        publish(server, versions)
        server.on("/files/frob-1.0.tar.gz", Reply(raw=versions["1.0"], headers=octets))
        broken = Reply(raw=whole, headers=octets, cut=len(whole) - kept)

        def rest(request: Asked) -> Reply:
            start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
            return Reply(206, raw=whole[start:], headers=octets)

        server.on("/files/frob-1.1.tar.gz", broken, rest)
        index = {"PIP_INDEX_URL": f"{server.url}/simple", "UV_DEFAULT_INDEX": "", "UV_INDEX_URL": ""}
        with started(home, "build", str(tmp_path / "sources.toml"), **index) as process:
            read_until(process, "waiting")
            told = press_ctrl_c(process)
        assert told.status in (0, 130), "stopped, or quicker than the finger: either way the download goes on where it broke off"
        assert told.status == 0 or "the same command goes on from there" in told.err
        told = envfarm(home, "build", tmp_path / "sources.toml", **index)
        asked = [a.headers.get("range", "") for a in server.asked if a.path == "/files/frob-1.1.tar.gz"]
    assert told.status == 0, told.err
    assert asked[0] == ""
    assert len(asked) == 2
    assert 0 < int(asked[1].removeprefix("bytes=").removesuffix("-")) <= kept
    assert "frob\t" in told.out


def test_two_builds_of_one_file_do_not_disturb_each_other_and_ctrl_c_ends_one(tmp_path: Path, home: Path) -> None:
    over = threading.Event()
    with serving(ScriptedServer()) as server:

        def slow(_: object) -> Reply:
            over.wait(100)
            return Reply(404)

        server.on("/acme/shelf.git/info/refs?service=git-upload-pack", slow)
        file = sources(tmp_path, f"{server.url}/acme/shelf.git")
        with started(home, "build", str(file)) as process:
            read_until(process, "fetching")
            second = envfarm(home, "build", file)
            (tmp_path / "other").mkdir()
            third = envfarm(home, "build", sources(tmp_path / "other", repository_without_tests(tmp_path / "shelf")))
            pressed = time.monotonic()
            first = press_ctrl_c(process)
            waited_s = time.monotonic() - pressed
            over.set()
    assert second.status == 2
    assert "another build is at work" in second.error
    assert third.status == 0, third.err
    assert first.status == 130
    assert waited_s < 15


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk wants root: run the tests as root, in a container of its own")
def test_full_disk_rejects_nothing_and_the_next_build_goes_on(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    repository = repository_without_tests(tmp_path / "shelf")
    (repository / "tests").mkdir()
    (repository / "tests/test_shelf.py").write_text("from shelf import places\n\ndef test_places():\n    assert places == 7\n")
    (repository / "shelf.py").write_text("places = 7\n")
    (repository / "LICENSE").write_text("SPDX-License-Identifier: MIT\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Give every shelf seven places\n\nSix places were not enough for all the maps that we have.")
    file = tmp_path / "sources.toml"
    text = f'[[source]]\nkind = "git"\nrepository = \'{repository}\'\nlicence = "MIT"\ncommits = {{ newest = 1 }}\n'
    file.write_text(text)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(small)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        told = envfarm(small, "build", file)
        entries = "".join(path.read_text() for path in (small / "sources/builds").glob("*.jsonl"))
        with pytest.raises(OSError, match="No space left"):
            (small / "filler").write_bytes(b"\0" * (9 << 20))
        full = envfarm(small, "tasks", "list")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert told.status == 1
    assert "is nearly full" in told.error
    assert "what was done is kept" in told.hint
    assert entries
    assert '"kind": "rejected"' not in entries
    assert full.status in {0, 1}


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
    assert "no task fits" in envfarm(home, "tasks", "list", "--state", "any").err


# Runs


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("golden", "there is no policy 'golden'"),
        ("gold:x=1", "policy gold takes no options"),
        ("openai_chat:model=m,tempo=3", "`tempo` is no option of it"),
        ("openai_chat", "`model` is missing"),
        ("openai_chat:model=m,base_url=example", "'example' is no http(s) address"),
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


@pytest.mark.parametrize("option", [("--policies", "gold"), ("--group", "none"), ("--sandbox", "moon"), ("--parallel", "0")])
def test_option_that_makes_no_sense_is_told_with_where_to_look(farm_home: Path, option: tuple[str, str]) -> None:
    told = envfarm(farm_home, "run", "adder", *option)
    assert told.status == 2
    assert option[0] in told.error
    assert told.hint == "hint: `envfarm run --help` says what can be given"


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
    assert runs["good"][2:] == ["2", "0", "0", "0", "0.500"]


DOWN = "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (None, "ConnectError"),
        (Line(completion({"content": ""}), delay_s=30), "no answer in"),
        (Line(b"<html>it works!</html>"), "not JSON"),
        (Line({"object": "list"}), "no choices"),
        (Line({"error": "no such model"}, status=404), "no such model"),
        (Line(hang_up=True), "disconnected"),
    ],
    ids=["down", "slow", "html", "nonsense", "refuses", "hangs-up"],
)
async def test_endpoint_that_fails_makes_episodes_invalid_and_never_zero(farm_home: Path, line: Line | None, words: str) -> None:
    async with chat_server([line or Line()]) as server:
        url = server.base_url if line else DOWN
        policy = f"openai_chat:model=m,base_url={url},patience.tries=1,patience.timeout_s=0.5"
        run = re.sub(r"\W", "", words)
        told = await in_thread(farm_home, "run", "adder", "--run", run, "--policy", policy)
    assert told.status == 1
    episode, _, _, outcome, why = told.out.splitlines()[1].split("\t")
    assert outcome == "invalid (policy)"
    assert words in why
    assert told.error == "error: 1 of 1 episodes are invalid: not the policy's failures, and not zeros"
    assert f"--run {run}-try2" in told.hint
    shown = await in_thread(farm_home, "episode", "show", episode)
    assert "invalid, and not a zero: the policy's endpoint failed" in shown.out
    listed = await in_thread(farm_home, "runs")
    assert next(row.split("\t")[2:] for row in listed.out.splitlines() if row.startswith(f"{run}\t")) == ["0", "1", "0", "0", ""]


async def test_ctrl_c_during_a_run_keeps_it_and_the_same_command_ends_it(farm_home: Path) -> None:
    finish = Line(tool_call("finish", {"message": "done"}))
    async with chat_server([Line(delay_s=100), finish]) as server:
        arguments = ("run", "adder", "--run", "stopped", "--policy", f"openai_chat:model=m,base_url={server.base_url}")
        with started(farm_home, *arguments) as process:
            while not server.requests:  # noqa: ASYNC110 - the server sets no event
                await asyncio.sleep(0.05)
            told = await asyncio.to_thread(press_ctrl_c, process)
        assert told.status == 130
        assert "the same command goes on from there" in told.err
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


# The shell


def test_shell_runs_the_lines_that_are_piped_into_it(farm_home: Path) -> None:
    lines = b"cd /tmp; X=5\necho $X in $PWD\nprintf '\\033[31mred'; false\nexit\necho never\n"
    done = subprocess.run(arguments_of(farm_home, ["shell", "adder"]), input=lines, capture_output=True, check=False, timeout=60)
    told = Told(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert told.status == 0
    assert told.out.splitlines() == ["5 in /tmp", r"\x1b[31mred"]
    assert "[exit status 1]" in told.err


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, argv: list[str]) -> None:
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)  # noqa: S606 - the child of a fork has nothing else to do
        self.seen = ""

    def until(self, words: str) -> None:
        """Read until the words come, after what was read before."""
        start = len(self.seen)
        while words not in self.seen[start:]:
            self.seen += os.read(self._descriptor, 65536).decode(errors="replace")

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def to_the_end(self) -> int:
        try:
            while data := os.read(self._descriptor, 65536):
                self.seen += data.decode(errors="replace")
        except OSError:
            pass  # how the other side's end is told on Linux
        _, status = os.waitpid(self.pid, 0)
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(status)


def test_ctrl_c_in_the_shell_ends_the_command_and_not_the_shell(farm_home: Path) -> None:
    terminal = Terminal(arguments_of(farm_home, ["shell", "adder"], TERM="dumb"))
    terminal.until("/testbed$ ")
    terminal.type("Y=kept; sleep 99\n")
    terminal.until("sleep 99")
    time.sleep(0.5)  # until the line has become a command
    terminal.type("\x03")
    terminal.until("[the command was ended]")
    terminal.until("/testbed$ ")
    terminal.type("half a li\x03")
    terminal.until("/testbed$ ")
    terminal.type("echo was $Y\n")
    terminal.until("was kept")
    terminal.until("/testbed$ ")
    terminal.type("\x04")
    assert terminal.to_the_end() == 0


# Terminals and pipes


def test_output_that_nobody_reads_on_ends_quietly(farm_home: Path) -> None:
    for arguments in (["tasks", "show", "adder"], ["--help"], ["tasks", "list", "--state", "any"]):
        with started(farm_home, *arguments) as process:
            assert process.stdout is not None
            process.stdout.close()
            process.stdout = None
            _, err = process.communicate(timeout=60)
            assert err == b""


@pytest.mark.parametrize("arguments", [["tasks", "list", "--state", "any"], ["runs"], ["doctor"], ["--help"]], ids=" ".join)
def test_sixty_columns_are_enough_and_no_color_is_heeded(farm_home: Path, arguments: list[str]) -> None:
    terminal = Terminal(arguments_of(farm_home, arguments, COLUMNS="60", TERM="xterm", NO_COLOR="1"))
    terminal.to_the_end()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", terminal.seen)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen)
    assert plain.strip()
    assert not re.search(r"aaaa11\s*\n\s*11", plain), "a name is broken where it cannot be copied"
    if arguments != ["--help"]:
        assert max(len(line.rstrip()) for line in plain.splitlines()) <= 60


def test_encoding_that_cannot_say_everything_stops_nothing(farm_home: Path) -> None:
    told = envfarm(farm_home, "doctor", PYTHONIOENCODING="ascii")
    assert told.status in {0, 1}
    assert r"\u2713" in told.out


# The home


def test_home_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = envfarm(tmp_path / "file/home", "tasks", "list")
    assert told.status == 1
    assert "Not a directory" in told.error
    assert "ENVFARM_HOME" in told.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere: run the tests as another user")
def test_home_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    told = envfarm(tmp_path / "home", "tasks", "list")
    assert told.status == 1
    assert "Permission denied" in told.error
    assert "ENVFARM_HOME" in told.hint


def test_no_command_shows_the_commands(home: Path) -> None:
    told = envfarm(home)
    assert told.status == 2
    assert told.err.startswith("Usage: ")
    assert envfarm(home, "biuld").status == 2
    assert textwrap.dedent(told.err).count("error") == 0
