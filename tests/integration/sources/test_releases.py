"""Releases from an index on loopback: honest, broken and hostile archives."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import pytest

from envfarm.core.candidate import Rejection
from envfarm.core.errors import SourceError
from envfarm.core.source import SourceRecord
from envfarm.testing.archives import Entry, entry, tar_of
from envfarm.testing.package_index import BYTES, JSON, publish
from envfarm.testing.scripted_server import Asked, Reply, ScriptedServer
from task_builders.sources import releases
from task_builders.sources.package_index import IndexFile, PackageIndex
from task_builders.sources.path_rules import PathRules
from task_builders.sources.releases import IndexAccess
from task_builders.sources.source_models import ReleasesSource
from tests.integration.sources.conftest import HeldClock

NOTES = "# Changes\n\n## 1.1\n\n- Values may be negative.\n\n## 1.0\n\n- First.\n"


def archive(top: str, files: dict[str, str], *members: Entry) -> bytes:
    return tar_of(*((f"{top}/{name}", text.encode()) for name, text in files.items()), *members, packed="gz")


def release(version: str, **changed: str | None) -> bytes:
    files: dict[str, str | None] = {
        "src/frob.py": f"version = {version!r}\n",
        "tests/test_frob.py": f"assert {version!r}\n",
        "CHANGES.md": NOTES,
        "PKG-INFO": f"Name: frob\nVersion: {version}\nLicense-Expression: MIT\n",
    }
    files |= {{"tests": "tests/test_frob.py", "notes": "CHANGES.md"}[k]: v for k, v in changed.items()}
    return archive(f"frob-{version}", {k: v for k, v in files.items() if v is not None})


def read(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock, **how: Any) -> list[SourceRecord | Rejection]:
    source = ReleasesSource.model_validate({"package": "frob", **(how or {"newest": 2})})
    return list(releases.read(source, rules, tmp_path, IndexAccess(f"{server.url}/simple", patience=clock.patience())))


def test_a_pair_of_releases_is_a_record(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock) -> None:
    publish(server, {"1.0": release("1.0"), "1.1": release("1.1")})
    (record,) = read(server, rules, tmp_path, clock)
    assert isinstance(record, SourceRecord)
    assert (record.title, record.body, record.licence) == ("Release 1.1", "- Values may be negative.", "MIT")
    assert record.url == f"{server.url}/simple/frob/#1.1"
    assert record.created_at.isoformat() == "2024-01-02T00:00:00+00:00"
    assert "+version = '1.1'" in record.patch
    assert server.asked[0].headers["accept"] == "application/vnd.pypi.simple.v1+json"
    assert read(server, rules, tmp_path, clock) == [record]
    assert server.paths().count("/files/frob-1.1.tar.gz") == 1


def test_why_a_pair_is_none_is_told(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock) -> None:
    publish(server, {"1.0": release("1.0"), "1.1": release("1.1", tests=None), "1.2": release("1.2"), "1.3": release("1.3", notes=None)})
    assert [r.reason if isinstance(r, Rejection) else "" for r in read(server, rules, tmp_path, clock, newest=4)] == [
        "the source distribution has no tests",
        "no changelog tells of the release",
        "no changelog tells of the release",
    ]


@pytest.mark.parametrize(
    "member",
    [
        entry("../outside"),
        entry("frob-1.1/out", kind=tarfile.SYMTYPE, link="../../../etc/passwd"),
        entry("frob-1.1/out", kind=tarfile.SYMTYPE, link="/etc/passwd"),
        entry("frob-1.1/out", kind=tarfile.LNKTYPE, link="/etc/passwd"),
        entry("frob-1.1/device", kind=tarfile.CHRTYPE),
        entry("frob-1.1/pipe", kind=tarfile.FIFOTYPE),
    ],
)
def test_hostile_archives_are_refused(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock, member: Entry) -> None:
    hostile = archive("frob-1.1", {"src/frob.py": "x"}, member)
    publish(server, {"1.0": release("1.0"), "1.1": hostile})
    with pytest.raises(SourceError, match=r"frob-1\.1\.tar\.gz` cannot be read"):
        read(server, rules, tmp_path, clock)


def test_git_directories_in_archives_are_left_out(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock) -> None:
    inner = archive(
        "frob-1.1",
        {".git/hooks/post-checkout": "evil", "src/.GIT/config": "evil", "src/frob.py": "x", "tests/t.py": "y", "CHANGES.md": NOTES},
    )
    publish(server, {"1.0": release("1.0"), "1.1": inner})
    (record,) = read(server, rules, tmp_path, clock)
    assert isinstance(record, SourceRecord)
    assert "evil" not in record.patch


def test_an_archive_that_is_none_is_told(server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock) -> None:
    publish(server, {"1.0": release("1.0"), "1.1": b"not an archive"})
    with pytest.raises(SourceError, match="cannot be read"):
        read(server, rules, tmp_path, clock)


@pytest.fixture
def big() -> bytes:
    return bytes(range(256)) * 2000


def file_of(server: ScriptedServer, content: bytes, **more: Any) -> IndexFile:
    return IndexFile(filename="big.tar.gz", url=f"{server.url}/big", hashes={"sha256": hashlib.sha256(content).hexdigest()}, **more)


def test_a_download_goes_on_where_it_broke_off(server: ScriptedServer, tmp_path: Path, clock: HeldClock, big: bytes) -> None:
    def rest(asked: Asked) -> Reply:
        start = int(asked.headers["range"].removeprefix("bytes=").removesuffix("-"))
        return Reply(206, raw=big[start:], headers=BYTES)

    server.on("/big", Reply(raw=big, headers=BYTES, cut=len(big) // 2), rest)
    with PackageIndex(server.url, patience=clock.patience()) as index:
        assert index.download(file_of(server, big), tmp_path).read_bytes() == big
    assert server.asked[1].headers["range"] != "bytes=0-"
    assert clock.waits == [1]


def test_a_server_without_ranges_starts_again(server: ScriptedServer, tmp_path: Path, clock: HeldClock, big: bytes) -> None:
    server.on("/big", Reply(raw=big, headers=BYTES, cut=1000), Reply(raw=big, headers=BYTES))
    with PackageIndex(server.url, patience=clock.patience()) as index:
        assert index.download(file_of(server, big), tmp_path).read_bytes() == big


def test_what_is_not_what_the_index_says_is_thrown_away(server: ScriptedServer, tmp_path: Path, clock: HeldClock, big: bytes) -> None:
    server.on("/big", Reply(raw=b"forged", headers=BYTES))
    with PackageIndex(server.url, patience=clock.patience()) as index, pytest.raises(SourceError, match="SHA-256"):
        index.download(file_of(server, big), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sizes_and_names_are_bounded(server: ScriptedServer, tmp_path: Path, clock: HeldClock, big: bytes) -> None:
    server.on("/big", Reply(raw=big, headers=BYTES))
    with PackageIndex(server.url, patience=clock.patience(), max_archive_bytes=1000) as index:
        for file in (file_of(server, big, size=len(big)), file_of(server, big)):
            with pytest.raises(SourceError, match="larger than 1000 bytes"):
                index.download(file, tmp_path)
        with pytest.raises(SourceError, match="not a file's name"):
            index.download(file_of(server, big).model_copy(update={"filename": "../x.tar.gz"}), tmp_path)
        with pytest.raises(SourceError, match="no SHA-256"):
            index.download(file_of(server, big).model_copy(update={"hashes": {}}), tmp_path)


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (Reply(404, {}), "`frob` is not in"),
        (Reply(403, {}), "status 403"),
        (Reply(raw=b"<html>", headers={"Content-Type": "text/html"}), "does not speak the JSON simple API"),
        (Reply(body={"name": "frob"}, headers=JSON), "not what PEP 691 says"),
        (Reply(503, {}), "cannot be read: status 503"),
    ],
)
def test_an_index_that_cannot_be_read_is_told(
    server: ScriptedServer, rules: PathRules, tmp_path: Path, clock: HeldClock, reply: Reply, complaint: str
) -> None:  # fmt: skip
    server.on("/simple/frob/", reply)
    with pytest.raises(SourceError, match=complaint):
        read(server, rules, tmp_path, clock)
