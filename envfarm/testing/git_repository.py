"""Small real git repositories, written commit by commit, for tests of code that reads histories."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

SETTINGS = ("user.name=Ann", "user.email=ann@example.invalid", "commit.gpgsign=false", "tag.gpgsign=false", "protocol.file.allow=always")
MIT_LICENCE = """MIT License

Copyright (c) 2024 The Authors

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
PYPROJECT = """[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[project]
name = "NAME"
version = "1.0"
requires-python = ">=3.9"

[tool.setuptools]
packages = ["NAME"]
"""


@dataclass
class Repository:
    """A repository with a work tree."""

    path: Path
    day: int | None = None
    """An artificial clock: each commit is a day later. None: the machine's clock."""

    @classmethod
    def make(cls, path: Path, day: int | None = None) -> Self:
        """Create an empty repository in a new directory."""
        path.mkdir(parents=True)
        made = cls(path, day)
        made.git("init", "--quiet", "--initial-branch=main")
        return made

    def git(self, *arguments: str) -> str:
        """Run git in it. Returns its output."""
        settled = [word for setting in SETTINGS for word in ("-c", setting)]
        at = f"{1_600_000_000 + 86_400 * (self.day or 0)} +0000"
        dates = [] if self.day is None else [f"GIT_AUTHOR_DATE={at}", f"GIT_COMMITTER_DATE={at}"]
        argv = ["env", *dates, "git", "-C", str(self.path), *settled, *arguments]
        return subprocess.run(argv, capture_output=True, check=True).stdout.decode(errors="replace").strip()

    def commit(self, message: str, files: Mapping[str, str | bytes | None]) -> str:
        """Write or remove (None) files, commit everything, and return the hash."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if self.day is not None:
            self.day += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")


def python_project(name: str) -> dict[str, str]:
    """The files that make a Python package of this name installable by pip."""
    return {"LICENSE": MIT_LICENCE, "pyproject.toml": PYPROJECT.replace("NAME", name)}
