"""A recipe: how to make the environment that a task runs in. Data; it renders to a Dockerfile and applies as a local layer."""

from datetime import datetime
from typing import Literal

from envfarm.core import digest
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest


class Toolchain(Frozen):
    """A language's interpreter or compiler, by name and version (`python`, `3.11`)."""

    name: str
    version: str


class InstallStep(Frozen):
    """A command run while the environment is made, with `sh -c`, as the agent's user, never as root.

    Dependency steps have the network, project steps the checkout; the contract is in `envfarm.images.dockerfile`.
    """

    run: str
    why: str = ""
    """Which file or rule asked for it, for people who read the recipe."""


class Recipe(Frozen):
    """An environment as data. Two recipes with the same digest make the same layer.

    The layer holds what a dependency lock names, and is shared by all commits with the same one; `project` runs once per commit, on
    top of the checkout, and what it leaves belongs to the commit's checkout blob.
    """

    schema_version: Literal["1"] = "1"
    language: str
    toolchain: Toolchain
    system_packages: tuple[str, ...] = ()
    """Debian package names."""
    env: dict[str, str] = {}
    """Variables of every command in the box, install steps included."""
    dependencies: tuple[InstallStep, ...]
    """Steps that make the shared layer. They see no checkout: what they read is in `files`."""
    files: dict[str, str] = {}
    """Text files that the dependency steps read, by absolute path (the lock, a constraint list)."""
    project: tuple[InstallStep, ...] = ()
    """Steps that run with the checkout in place (an editable install, generated files). They may not need the network."""
    work_dir: str = "/testbed"
    resolved_at: datetime
    """The date as of which dependencies were resolved."""

    @property
    def layer_digest(self) -> Digest:
        """The identity of the shared layer: everything but the project's own steps and the date of resolution."""
        return digest.of_noun(self, without=("project", "resolved_at"))

    @property
    def digest(self) -> Digest:
        """The identity of the whole recipe."""
        return digest.of_noun(self)
