"""A package index that is down, refuses or has nothing makes no rejection: the next build takes the record up again."""

import subprocess
import sys
from pathlib import Path

import pytest
import uv

from envfarm.core.candidate import Gate
from envfarm.core.errors import BuildOutage, ImageError
from envfarm.testing import small_task
from envfarm.testing.scripted_server import Reply, ScriptedServer, serving
from task_builders import journal
from task_builders.journal import ItemFailed, ItemRejected
from task_builders.languages.python import recipe
from task_builders.languages.python.lock import UvResolver

pytestmark = pytest.mark.timeout(180)

PROGRAM = (sys.executable, "-c", "from envfarm.cli.main import main; main()")
IDENTITY = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false", "-c", "init.defaultBranch=main")
NOBODY = "http://127.0.0.1:9/simple"
LISTING = {"Content-Type": "application/vnd.pypi.simple.v1+json"}


def shelve(server: ScriptedServer, package: str) -> None:
    """Put a wheel into the server's index."""
    wheel = f"{package}-1.0-py3-none-any.whl"
    file = {"filename": wheel, "url": f"/files/{wheel}", "hashes": {}, "core-metadata": True, "upload-time": "2010-01-01T00:00:00Z"}
    server.on(f"/simple/{package}/", Reply(body={"meta": {"api-version": "1.1"}, "name": package, "files": [file]}, headers=LISTING))
    server.on(f"/files/{wheel}.metadata", Reply(raw=f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode()))


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
    assert "run the same command again" in said
    assert [type(entry) for entry in entries(home)] == [ItemFailed]
    with serving(ScriptedServer()) as server:
        status, said = build(home, file, f"{server.url}/simple")
        assert status == 1, said
        assert "does not even have pip" in said
        shelve(server, "pip")
        status, said = build(home, file, f"{server.url}/simple")
        asked = server.paths()
    assert status == 0, said
    assert any(path.startswith("/simple/pytest") for path in asked)
    assert [type(entry) for entry in entries(home)] == [ItemFailed, ItemFailed, ItemRejected]
    rejected = entries(home)[-1]
    assert isinstance(rejected, ItemRejected), "this index has packages, and not the one that is asked for"
    assert rejected.rejection.gate is Gate.SETUP


REPLIES = {
    "does not know the token": Reply(401, {}),
    "refuses": Reply(403, {}),
    "is at a wrong address": Reply(404, {}),
    "is a captive portal": Reply(raw=b"<html>Log in to the network first</html>", headers={"Content-Type": "text/html"}),
    "fails": Reply(500, {}),
}


@pytest.mark.parametrize("index", REPLIES)
async def test_requirements_are_not_refused_where_the_index(index: str) -> None:
    unlocked = small_task.recipe().model_copy(update={"files": {recipe.REQUIREMENTS: "frob\n"}})
    with serving(ScriptedServer()) as server:
        variables = {"UV_DEFAULT_INDEX": f"{server.url}/simple", "UV_HTTP_RETRIES": "0", "NO_PROXY": "127.0.0.1"}
        resolver = UvResolver(Path(uv.find_uv_bin()), variables=variables)
        for package in ("frob", "pip"):
            server.on(f"/simple/{package}/", REPLIES[index])
        with pytest.raises(BuildOutage):
            await resolver.lock(unlocked)
        shelve(server, "pip")
        server.on("/simple/frob/", Reply(404, {}))
        with pytest.raises(ImageError, match="frob was not found") as told:
            await resolver.lock(unlocked)
        assert not isinstance(told.value, BuildOutage)
        shelve(server, "frob")
        assert (await resolver.lock(unlocked)).files == {recipe.LOCKED: "frob==1.0\n"}
