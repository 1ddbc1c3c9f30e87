"""What a policy may do next. A discriminated union on `tool`: the names are those that models call."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from envfarm.core.frozen import Frozen
from envfarm.core.model_call import ModelCall


class Bash(Frozen):
    """Run a command in the episode's persistent shell."""

    tool: Literal["bash"] = "bash"
    command: str
    timeout_s: float | None = None
    """Seconds; the episode's budget decides where it is absent or larger."""


class StrReplace(Frozen):
    """Replace the one occurrence of `old` in a file; an empty `old` creates the file."""

    tool: Literal["str_replace"] = "str_replace"
    path: str
    old: str
    new: str


class ReadFile(Frozen):
    """Show lines of a file, numbered from 1."""

    tool: Literal["read_file"] = "read_file"
    path: str
    start_line: int = 1
    line_count: int = 400


class RunTests(Frozen):
    """Run the project's own tests as they are in the work dir (never the sealed ones): those at `paths`, or the suite."""

    tool: Literal["run_tests"] = "run_tests"
    paths: tuple[str, ...] = ()


class Finish(Frozen):
    """The agent says that it is done."""

    tool: Literal["finish"] = "finish"
    message: str = ""


class Malformed(Frozen):
    """A model's call that is no action: told back to it as an observation, at the cost of a turn."""

    tool: Literal["malformed"] = "malformed"
    raw: str
    problem: str


Action = Annotated[Bash | StrReplace | ReadFile | RunTests | Finish | Malformed, Field(discriminator="tool")]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a policy decided."""

    action: Action
    call: ModelCall | None = None
    """The model call behind it, if there was one."""
