"""`envfarm build`, as a person meets it whose sources are wrong, whose index hangs up, whose disk is full, and who presses Ctrl-C."""

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from envfarm.testing.archives import tar_of
from envfarm.testing.git_repository import Repository
from envfarm.testing.package_index import BYTES, publish
from envfarm.testing.scripted_server import Asked, Reply, ScriptedServer, serving
from tests.integration.program.process import envfarm, press_ctrl_c, read_until, started

pytestmark = pytest.mark.timeout(180)


def repository_without_tests(directory: Path) -> Repository:
    made = Repository.make(directory)
    for number in range(2):
        message = f"Give every shelf {number} places\n\nThere were never enough of them for the maps."
        made.commit(message, {"shelf.py": f"places = {number}\n"})
    return made


def sources(directory: Path, repository: str | Path) -> Path:
    path = directory / "sources.toml"
    path.write_text(f"[[source]]\nkind = \"git\"\nrepository = '''{repository}'''\ncommits = {{ newest = 5 }}\n")
    return path


def test_repository_that_is_not_there(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, "nowhere"))
    assert told.status == 1
    assert told.error == f"error: `{tmp_path}/nowhere`: no such repository"
    assert told.err.count("no such repository") == 1
    assert "give a directory with a git repository" in told.hint


def test_repository_that_cannot_be_reached(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, "http://127.0.0.1:9/acme/shelf.git"))
    assert told.status == 1
    assert "cannot be fetched" in told.error
    assert "run again to go on" in told.hint


def test_repository_without_tests_gives_no_task_and_says_why(tmp_path: Path, home: Path) -> None:
    told = envfarm(home, "build", sources(tmp_path, repository_without_tests(tmp_path / "shelf").path))
    assert told.status == 0
    assert "the change touches no test" in told.out
    assert "these sources yielded no task" in told.err


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
    repository.commit("Add the scans of the oldest maps", {os.fsdecode(b"\xff\xfe scan.txt"): "x", 'two\nlines "q".txt': "y"})
    told = envfarm(home, "build", sources(tmp_path, repository.path))
    assert told.status == 0, told.err
    assert "ma ps – ünï'$x\t3\t" in told.out


def sdist(version: str, filler: int = 0) -> bytes:
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: frob\nVersion: {version}\nLicense-Expression: MIT\n".encode(),
        "frob.py": f"version = {version!r}\n".encode(),
        "data.bin": hashlib.shake_128(b"any").digest(filler),
    }
    return tar_of(*((f"frob-{version}/{name}", content) for name, content in files.items()), packed="gz")


def test_download_that_broke_off_goes_on_in_the_next_build(tmp_path: Path, home: Path) -> None:
    (tmp_path / "sources.toml").write_text('[[source]]\nkind = "releases"\npackage = "frob"\nnewest = 2\n')
    versions = {"1.0": sdist("1.0"), "1.1": sdist("1.1", 300_000)}
    whole, kept = versions["1.1"], 200_000
    with serving(ScriptedServer()) as server:
        publish(server, versions)
        broken = Reply(raw=whole, headers=BYTES, cut=len(whole) - kept)

        def rest(request: Asked) -> Reply:
            start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
            return Reply(206, raw=whole[start:], headers=BYTES)

        server.on("/files/frob-1.1.tar.gz", broken, rest)
        index = {"PIP_INDEX_URL": f"{server.url}/simple", "UV_DEFAULT_INDEX": "", "UV_INDEX_URL": ""}
        with started(home, "build", str(tmp_path / "sources.toml"), **index) as process:
            read_until(process, "waiting")
            told = press_ctrl_c(process)
        assert told.status in (0, 130), "stopped, or quicker than the finger: either way the download goes on where it broke off"
        assert told.status == 0 or "the same command continues from there" in told.err
        told = envfarm(home, "build", tmp_path / "sources.toml", **index)
        asked = [a.headers.get("range", "") for a in server.asked if a.path == "/files/frob-1.1.tar.gz"]
    assert told.status == 0, told.err
    assert asked[0] == ""
    assert len(asked) == 2
    assert 0 < int(asked[1].removeprefix("bytes=").removesuffix("-")) <= kept
    assert "frob\t" in told.out


@contextmanager
def started_in_the_background(home: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """As by `command &` in a script: a shell has such commands ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with started(home, *arguments) as process:
            signal.signal(signal.SIGINT, before)
            yield process
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_builds_of_one_file_do_not_disturb_each_other_and_a_signal_ends_one(tmp_path: Path, home: Path, number: int) -> None:
    over = threading.Event()
    with serving(ScriptedServer()) as server:

        def slow(_: object) -> Reply:
            over.wait(100)
            return Reply(404)

        server.on("/acme/shelf.git/info/refs?service=git-upload-pack", slow)
        file = sources(tmp_path, f"{server.url}/acme/shelf.git")
        start = started_in_the_background if number == signal.SIGTERM else started
        with start(home, "build", str(file)) as process:
            read_until(process, "fetching")
            second = envfarm(home, "build", file)
            (tmp_path / "other").mkdir()
            third = envfarm(home, "build", sources(tmp_path / "other", repository_without_tests(tmp_path / "shelf").path))
            pressed = time.monotonic()
            first = press_ctrl_c(process, number)
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
    files = {
        "tests/test_shelf.py": "from shelf import places\n\ndef test_places():\n    assert places == 7\n",
        "shelf.py": "places = 7\n",
        "LICENSE": "SPDX-License-Identifier: MIT\n",
    }
    repository.commit("Give every shelf seven places\n\nSix places were not enough for all the maps that we have.", files)
    file = tmp_path / "sources.toml"
    text = f'[[source]]\nkind = "git"\nrepository = \'{repository.path}\'\nlicence = "MIT"\ncommits = {{ newest = 1 }}\n'
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
    assert "finished work is kept" in told.hint
    assert entries
    assert '"kind": "rejected"' not in entries
    assert full.status == 0 or full.hint
