"""The git program, run with none of this machine's or user's configuration. Called by the checkout and the history proof alone.

It must not run anything that a repository configures: no hooks, no filters, no fetches.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from envfarm.core.errors import SourceError

CONFIG = """\
[safe]
	directory = *
[core]
	hooksPath = /dev/null
	fsmonitor = false
[protocol]
	allow = never
"""
TIMEOUT_S = 600.0


class Git:
    """Git over one directory: a repository (bare or not) or a `.git`."""

    def __init__(self, directory: Path, *, scratch: Path) -> None:
        """`scratch` is a directory of the caller's, into which the neutral configuration is written."""
        found = shutil.which("git")
        if found is None:
            raise SourceError("git is not on PATH", hint="install git")
        self._git = found
        self._directory = directory
        config = scratch / "gitconfig"
        config.write_text(CONFIG)
        self._env = {
            "PATH": f"{Path(found).parent}{os.pathsep}{os.defpath}",
            "HOME": str(scratch),
            "LC_ALL": "C",
            "TZ": "UTC",
            "GIT_CONFIG_GLOBAL": str(config),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
        }

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        """Standard output. Raises `SourceError` with the end of what git said when it fails."""
        done = self.attempt(*args, stdin=stdin, env=env)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            raise SourceError(f"git {args[0]} failed in {self._directory}: {said or f'status {done.returncode}'}")
        return done.stdout

    def attempt(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
        """The finished process, whatever its status. Raises `SourceError` when git cannot be run or hangs."""
        command = [self._git, "-C", str(self._directory), *args]
        try:
            return subprocess.run(
                command, input=stdin, env={**self._env, **(env or {})}, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise SourceError(f"git {args[0]} did not run in {self._directory}: {e}") from e
