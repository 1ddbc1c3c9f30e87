"""Small real repositories for the tests of sources."""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class Repository:
    """A repository with a work tree, and a clock of its own: each commit is a day later."""

    path: Path
    day: int = 0

    def git(self, *arguments: str) -> str:
        at = f"{1_600_000_000 + 86_400 * self.day} +0000"
        settled = [
            "-c",
            "user.name=Ann",
            "-c",
            "user.email=ann@example.invalid",
            "-c",
            "commit.gpgsign=false",
            "-c",
            "protocol.file.allow=always",
        ]
        argv = ["env", f"GIT_AUTHOR_DATE={at}", f"GIT_COMMITTER_DATE={at}", "git", "-C", str(self.path), *settled, *arguments]
        return subprocess.run(argv, capture_output=True, check=True).stdout.decode(errors="replace").strip()

    def commit(self, message: str, files: Mapping[str | bytes, str | bytes | None]) -> str:
        """Write or remove (None) files, commit, and tell the hash."""
        for name, content in files.items():
            path = self.path / (name.decode(errors="surrogateescape") if isinstance(name, bytes) else name)
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        self.day += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Callable[[], Repository]:
    """Makes an empty repository."""

    def make() -> Repository:
        path = tmp_path / f"repository {len(list(tmp_path.iterdir()))}"
        path.mkdir()
        made = Repository(path)
        made.git("init", "--quiet", "--initial-branch=main")
        return made

    return make
