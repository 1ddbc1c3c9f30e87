"""A task: what an agent is told and given, and what is sealed from it. Kept as a Harbor 1.4 directory (`envfarm.stores.task_dir`)."""

import re
import textwrap
from datetime import datetime
from typing import Literal

from pydantic import field_validator

from envfarm.core import digest
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.core.plan import GONE_FIELDS, TestPlan
from envfarm.core.recipe import Recipe

Kind = Literal["repo", "terminal", "web", "tools"]
TITLE_CHARACTERS = 200
CODE_BLOCK = re.compile(r"^(```|~~~).*?(?:^\1|\Z)", re.MULTILINE | re.DOTALL)
MAIN_HEADING = re.compile(r"^# +(\S.*)", re.MULTILINE)


class Attribution(Frozen):
    """Whose work a task is made of, as licences ask for it."""

    licence: str
    """An SPDX expression."""
    author: str = ""
    url: str
    changes: str = "The text was shortened and addresses and ids were removed."


class Limits(Frozen):
    """What a box of this task may use."""

    cpus: float = 1.0
    memory_mib: int = 2048
    disk_mib: int = 4096
    pids: int = 512
    agent_s: float = 3600.0
    verifier_s: float = 600.0


class Task(Frozen):
    """A task's static content. `files` holds the rest of its directory; everything in it counts for the digest."""

    name: str
    """`org/name`, as Harbor wants it."""
    kind: Kind
    language: str
    instruction: str
    created_at: datetime
    """When the source's fix came to be."""
    attribution: Attribution
    recipe: Recipe
    checkout: Digest | None = None
    """The blob of the commit's tree as the agent sees it."""
    plan: TestPlan
    limits: Limits = Limits()
    solution: dict[str, bytes]
    """Files under `solution/`, by relative path: `solve.sh`, and what it uses."""
    tests: dict[str, bytes]
    """Files under `tests/` beside `plan.json`, by relative path: `files/…`, `canaries/…`."""
    keywords: tuple[str, ...] = ()

    @field_validator("plan", mode="before")
    @classmethod
    def _of_an_older_farm(cls, plan: object) -> object:
        return {name: value for name, value in plan.items() if name not in GONE_FIELDS} if isinstance(plan, dict) else plan

    @property
    def digest(self) -> TaskDigest:
        """The task's identity."""
        return TaskDigest(digest.of_noun(self))

    @property
    def title(self) -> str:
        """Its instruction's main heading, or else the first words of it; one line of at most `TITLE_CHARACTERS`."""
        prose = CODE_BLOCK.sub("", self.instruction).strip()
        heading = MAIN_HEADING.search(prose)
        words = heading.group(1) if heading else prose.partition("\n\n")[0].lstrip("# ")
        return textwrap.shorten(words, TITLE_CHARACTERS, placeholder=" …")
