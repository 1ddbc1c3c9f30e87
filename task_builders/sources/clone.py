"""A repository by path or address, kept as a mirror where it is an address. Called by the sources that read histories.

A mirror is made in steps that may be repeated: what was fetched stays, and a run that broke off goes on with the missing objects. Must
not change a repository that was given as a path.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from envfarm.core.errors import SourceError
from task_builders.sources.git import GitRepository

Progress = Callable[[str], None]
"""Is told, in a line for a person, what a source is waiting for."""

REFS = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+refs/pull/*/head:refs/pull/*/head")
"""Branches, tags and the heads of pull requests, by which a change is joined to its issue."""

CLONE_TIMEOUT_S = 4 * 3600.0
COMPLETE = "complete-mirror"
_SCP_LIKE = re.compile(r"^[\w.-]+@[\w.-]+:(?!//)")


def silent(_line: str) -> None:
    """For callers that watch nothing."""


def is_address(repository: str) -> bool:
    """Whether it is an address to fetch from, and not a path on this machine."""
    return "://" in repository or bool(_SCP_LIKE.match(repository))


def open_repository(repository: str, mirrors: Path, progress: Progress = silent) -> GitRepository:
    """The repository, ready to read.

    Args:
        repository: a path or an address.
        mirrors: the directory under which mirrors of addresses are kept.
        progress: told about fetching.

    Raises:
        SourceError: it cannot be had, is no repository, has no commit, or is shallow.
    """
    if not is_address(repository):
        local = GitRepository(Path(repository))
        local.check()
        return local
    if repository.startswith("-"):
        raise SourceError(f"`{repository}`: not an address")
    mirror = GitRepository(mirrors / f"{slug(repository)}.git")
    _update(mirror, repository, progress)
    mirror.check()
    return mirror


def name_of(repository: str) -> str:
    """`owner/name` of an address, the directory's name of a path."""
    trimmed = repository.rstrip("/").removesuffix("/.git").removesuffix(".git")
    parts = [p for p in re.split(r"[/:]", trimmed) if p]
    return "/".join(parts[-2:]) if is_address(repository) and len(parts) > 2 else parts[-1] if parts else repository  # noqa: PLR2004


def slug(repository: str) -> str:
    """A directory's name for it: readable, and another one for each address or path."""
    readable = re.sub(r"[^\w.-]+", "-", name_of(repository)).strip("-.")
    return f"{readable}-{hashlib.sha256(repository.encode()).hexdigest()[:12]}"


def _update(mirror: GitRepository, address: str, progress: Progress) -> None:
    complete = mirror.path / COMPLETE
    mirror.path.mkdir(parents=True, exist_ok=True)
    if not (mirror.path / "HEAD").exists():
        mirror.run("init", "--quiet", "--bare")
    progress(f"fetching {address}")
    try:
        head = _default_branch(mirror, address)
        what = ("--quiet", "--force", "--prune", "--no-write-fetch-head", "--", address, *REFS)
        mirror.run("fetch", *what, timeout_s=CLONE_TIMEOUT_S, as_user=True)
    except SourceError as e:
        if complete.exists():
            progress(f"{address} cannot be reached; going on with what was fetched before ({e})")
            return
        raise SourceError(f"`{address}` cannot be fetched: {e}", hint="check the address and your access to it; run again to go on") from e
    if head:
        mirror.run("symbolic-ref", "HEAD", head)
    complete.touch()


def _default_branch(mirror: GitRepository, address: str) -> str:
    listing = mirror.run("ls-remote", "--symref", "--", address, "HEAD", timeout_s=120, as_user=True).decode(errors="replace")
    found = re.match(r"ref: (refs/heads/\S+)\tHEAD", listing)
    return found.group(1) if found else ""
