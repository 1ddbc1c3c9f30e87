"""What becomes of a source record: a candidate, or a rejection that says why."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.question import Question
from envfarm.core.source import SourceRecord


class Gate(StrEnum):
    """The gates of a task, in the order in which they are passed. A rejection names the one that it failed at."""

    CANDIDATE = "candidate"
    LICENCE = "licence"
    DECONTAMINATION = "decontamination"
    DUPLICATE = "duplicate"
    SETUP = "setup"
    STATES = "three states"
    SUFFICIENCY = "sufficiency"
    IDS = "ids"
    LEAK = "leak proof"
    CANARIES = "canaries"
    GOLD = "gold"
    NOP = "nop"
    ATTACKS = "attacks"
    EQUIVALENTS = "equivalents"
    MUTATION = "mutation score"


class Candidate(Frozen):
    """An issue whose fix touches source and tests, split into the two."""

    source_digest: Digest
    repository: str
    name: str
    url: str
    language: str
    instruction: str
    """What the agent will be told: ids, addresses and commit hashes removed."""
    licence: str
    author: str = ""
    created_at: datetime
    base_commit: str
    fix_commit: str
    source_patch: str
    """The part of the fix that is the solution: a unified diff."""
    test_patch: str
    """The part of the fix that is its tests: a unified diff."""
    source_paths: tuple[str, ...]
    test_paths: tuple[str, ...]
    """Files that the fix's test part adds or changes, relative to the repository."""
    removed_test_paths: tuple[str, ...] = ()


class Rejection(Frozen):
    """Why something did not become a task. Nothing is dropped silently."""

    source_digest: Digest
    name: str
    url: str
    gate: Gate
    reason: str
    """One line for a table, without figures or names in it, so that equal reasons count together."""
    detail: str = ""
    evidence: dict[str, Any] = {}
    """What the gate saw: excerpts of logs, test ids, figures."""
    seconds: float = 0.0

    @classmethod
    def of(cls, what: Candidate | SourceRecord | Question, gate: Gate, reason: str, detail: str = "", **more: Any) -> Self:
        """A candidate's or a record's rejection; `more` are other fields."""
        source = what.source_digest if isinstance(what, Candidate) else what.digest
        return cls(source_digest=source, name=what.name, url=what.url, gate=gate, reason=reason, detail=detail, **more)
