"""A repository as one value, for builders on other machines, and a repository again there. Called by the builders on Ray.

What was brought before stays, so that a repository that has grown since is brought whole, and joined with what is there.
"""

import tempfile
from pathlib import Path

from envfarm.core import digest
from envfarm.core.errors import StoreError, boundary
from envfarm.core.frozen import Frozen
from task_builders.sources.clone import CLONE_TIMEOUT_S, slug
from task_builders.sources.git import GitRepository

STATE = "brought-state"
"""The file in a repository that says which state it was brought in, whole."""


class Brought(Frozen):
    """Which repository, in which state."""

    address: str
    """As candidates name it: an address, or a path on the machine of the driver."""
    state: str
    """A digest of all its references."""


def state_of(repository: GitRepository, address: str) -> Brought:
    """Raises `SourceError`."""
    return Brought(address=address, state=digest.of_bytes(repository.run("for-each-ref")))


def bundle(repository: GitRepository) -> bytes:
    """All that its references lead to, in git's own format. In memory: as large as the history. Raises `SourceError`."""
    return repository.run("bundle", "create", "--quiet", "-", "--all", timeout_s=CLONE_TIMEOUT_S)


def find(brought: Brought, mirrors: Path) -> GitRepository | None:
    """The repository, if it was brought in this state."""
    repository = _repository(brought, mirrors)
    try:
        return repository if (repository.path / STATE).read_text() == brought.state else None
    except FileNotFoundError:
        return None


def unpack(brought: Brought, content: bytes, mirrors: Path) -> GitRepository:
    """Make it of its bundle, or bring what is there to this state. Not to be called twice at once.

    Raises `SourceError` if git fails, and `StoreError` for a directory that cannot be written.
    """
    repository = _repository(brought, mirrors)
    with boundary(StoreError, f"writing {repository.path}"):
        repository.path.mkdir(parents=True, exist_ok=True)
        (repository.path / STATE).unlink(missing_ok=True)  # a fetch that breaks off leaves neither state
        if not (repository.path / "HEAD").exists():
            repository.run("init", "--quiet", "--bare")
        with tempfile.NamedTemporaryFile(dir=repository.path, prefix="brought-", suffix=".bundle") as file:
            file.write(content)
            file.flush()
            what = ("--quiet", "--force", "--prune", "--no-write-fetch-head", "--", file.name, "+refs/*:refs/*")
            repository.run("fetch", *what, timeout_s=CLONE_TIMEOUT_S, as_user=True)
        (repository.path / STATE).write_text(brought.state)
    return repository


def _repository(brought: Brought, mirrors: Path) -> GitRepository:
    return GitRepository(mirrors / f"brought-{slug(brought.address)}.git")
