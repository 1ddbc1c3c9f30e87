"""The git program, for whoever reads repositories, makes some or fetches. Only here is it started, through GitPython.

The repositories are strangers': their own configuration may name programs to run. Nothing here runs hooks, filters, monitors or transports
that a repository names, and neither this machine's nor the user's configuration and environment shape what is read. A fetch alone has the
user's own, since it needs their credentials, proxies and certificates.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envfarm.core.errors import SourceError

if TYPE_CHECKING:
    from git.cmd import Git as Program

FIRM_SETTINGS = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=true", "-c", "safe.directory=*",
    "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false", "-c", "diff.renames=true", "-c", "diff.algorithm=myers",
    "-c", "diff.ignoreSubmodules=none", "-c", "diff.submodule=short", "-c", "diff.context=3", "-c", "diff.interHunkContext=0",
    "-c", "core.attributesFile=/dev/null", "-c", "log.showSignature=false",
)  # fmt: skip
"""What a repository's configuration could otherwise bend."""
ALWAYS = {"GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C", "TZ": "UTC"}
READING = {
    **ALWAYS,
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
"""With PATH the whole environment of git: none of it is inherited."""
FETCHING = {**ALWAYS, "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file"}
NOT_INHERITED = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE")
"""What would have a fetch work on another repository than it is told to."""
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Git:
    """Git over one directory: a repository (bare or not), a `.git`, or where one is to be made."""

    path: Path

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        as_user: bool = False,
    ) -> bytes:
        """What git prints; blocks, so asyncio code calls it in a thread.

        Args:
            arguments: git's command and what it is given.
            stdin: what it is given to read.
            env: variables beside the neutral ones.
            timeout_s: seconds until it is killed.
            as_user: with the user's configuration and environment, and over the network: to fetch, never to read.

        Raises:
            SourceError: git is missing, failed, or took too long.
        """
        process = _started(self._command(arguments, env or {}, as_user=as_user))
        try:
            output, said = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as e:
            process.kill()
            hint = "try again; what arrived is kept"
            raise SourceError(f"`git {arguments[0]}` in {self.path} took more than {timeout_s:.0f} s", hint=hint) from e
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            raise SourceError(f"`git {arguments[0]}` in {self.path} failed: {lines[-1] if lines else f'status {process.returncode}'}")
        return bytes(output)

    def _command(self, arguments: Sequence[str], env: Mapping[str, str], *, as_user: bool) -> list[str]:
        """Through env(1): GitPython adds to the environment that this process has, and takes nothing away."""
        if (git := shutil.which("git")) is None:
            raise SourceError("git is not on PATH", hint="install git")
        beginning = ["-i", f"PATH={Path(git).parent}{os.pathsep}{os.defpath}"]
        if as_user:
            beginning = [word for name in NOT_INHERITED for word in ("-u", name)]
        settled = {**(FETCHING if as_user else READING), **env}
        variables = (f"{name}={value}" for name, value in settled.items())
        return ["env", *beginning, *variables, git, "-C", str(self.path), *FIRM_SETTINGS, *arguments]


def _started(command: Sequence[str]) -> "Program.AutoInterrupt":
    """The process, ended with whoever lets go of it."""
    try:
        # Slow to import, an extra, and it cannot be imported where there is no git.
        from git.cmd import Git as Program  # noqa: PLC0415
        from git.exc import GitCommandNotFound  # noqa: PLC0415
    except ImportError as e:
        raise SourceError(f"GitPython cannot be imported: {e}", hint="pip install 'envfarm[mint]'") from e
    try:
        return Program().execute(command, istream=subprocess.PIPE, as_process=True, shell=False)
    except (OSError, GitCommandNotFound) as e:
        raise SourceError(f"git cannot be started: {e}", hint="install coreutils, which has env(1)") from e
