"""A package index that is down makes no rejection: the next build takes the record up again."""

import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.testing.scripted_server import ScriptedServer, serving
from task_builders import journal
from task_builders.journal import ItemFailed, ItemRejected

pytestmark = pytest.mark.timeout(180)

PROGRAM = (sys.executable, "-c", "from envfarm.cli.main import main; main()")
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
NOBODY = "http://127.0.0.1:9/simple"


def repository_with_a_fix(directory: Path) -> Path:
    def git(*arguments: str) -> None:
        subprocess.run(["git", *IDENTITY, "-C", str(directory), *arguments], check=True, capture_output=True)

    (directory / "tests").mkdir(parents=True)
    git("init", "-q")
    for places in (6, 7):
        (directory / "shelf.py").write_text(f"places = {places}\n")
        (directory / "tests/test_shelf.py").write_text(f"from shelf import places\n\ndef test_places():\n    assert places == {places}\n")
        git("add", "-A")
        git("commit", "-q", "-m", f"Give every shelf {places} places\n\nThere were never enough of them for all the maps that we have.")
    return directory


def build(home: Path, file: Path, index: str, *options: str) -> tuple[int, str]:
    variables = {"ENVFARM_HOME": str(home), "UV_DEFAULT_INDEX": index, "UV_INDEX_URL": "", "PIP_INDEX_URL": index, "UV_HTTP_RETRIES": "0"}
    argv = ["env", *(f"{k}={v}" for k, v in variables.items()), *PROGRAM, "build", str(file), *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL)
    return done.returncode, done.stderr


def entries(home: Path) -> list[journal.Finished | ItemFailed]:
    (path,) = (home / "sources/builds").glob("*.jsonl")
    return list(journal.read(path))


def test_record_that_met_a_dead_index_is_judged_once_the_index_is_back(tmp_path: Path) -> None:
    repository, home = repository_with_a_fix(tmp_path / "shelf"), tmp_path / "home"
    file = tmp_path / "sources.toml"
    file.write_text(f'[[source]]\nkind = "git"\nrepository = \'{repository}\'\nlicence = "MIT"\ncommits = {{ newest = 1 }}\n')
    status, said = build(home, file, NOBODY)
    assert status == 1, said
    assert "does not answer" in said
    assert "the same command takes it up again" in said
    assert [type(entry) for entry in entries(home)] == [ItemFailed]
    with serving(ScriptedServer()) as server:
        status, said = build(home, file, f"{server.url}/simple")
        asked = server.paths()
    assert status == 0, said
    assert any(path.startswith("/simple/pytest") for path in asked)
    rejected = entries(home)[-1]
    assert isinstance(rejected, ItemRejected), "this index answers, and has no package at all"
    assert rejected.rejection.reason == "no set of packages satisfies the requirements"
