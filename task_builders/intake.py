"""What is decided of a record before anything runs, and what a build remembers of those before it. Made by `workbench`, one for each build.

It needs no sandbox: a build's driver has it where the boxes are other machines'.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.ids import Digest
from envfarm.core.question import Question
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.candidates.decontamination import Decontamination
from task_builders.candidates.dedup import Duplicates
from task_builders.candidates.make import make
from task_builders.languages.profile import LanguageProfile
from task_builders.pipeline import Drafted, Record
from task_builders.questions.alike import AlikeQuestions
from task_builders.questions.screening import NotUnderstood, judge
from task_builders.questions.understanding import Understood
from task_builders.sources.clone import open_repository, silent
from task_builders.sources.git import GitRepository
from task_builders.terminal.earlier import Earlier, EarlierTasks

SCREENED = GateResult(gate=Gate.CANDIDATE, passed=True, detail="the fix splits into source and tests, and the text says what is wanted")
UNIQUE = GateResult(gate=Gate.DUPLICATE, passed=True, detail="neither this change nor these words were seen before in this build")


@dataclass
class Intake:
    """Remembers what it has seen, to find duplicates."""

    profile: LanguageProfile
    decontamination: Decontamination
    earlier: EarlierTasks
    mirrors: Path
    _duplicates: Duplicates = field(default_factory=Duplicates)
    _alike: AlikeQuestions = field(default_factory=AlikeQuestions)
    _alike_to_write: AlikeQuestions = field(default_factory=AlikeQuestions)
    """Apart, so that questions for the writer make no other one a duplicate."""
    _questions: set[Digest] = field(default_factory=set)
    """Those of this build. Which of them repeat each other is decided before anything runs."""
    _repositories: dict[str, GitRepository] = field(default_factory=dict)

    def screen(self, record: Record, *, writes: bool = False) -> Drafted | Rejection:
        """See `pipeline.Stages`. Where somebody writes tasks, a question of which the rules make none goes on to them."""
        if isinstance(record, Question):
            self._questions.add(record.digest)
            found = judge(record)
            if isinstance(found, Understood):
                return self._alike.check(record, found) or found
            return found if not writes else self._alike_to_write.check(record, None) or NotUnderstood(found)
        candidate = make(record, self.profile)
        if isinstance(candidate, Rejection):
            return candidate
        return self.decontamination.check(candidate) or self._duplicates.check(candidate) or candidate

    @property
    def passed(self) -> Sequence[GateResult]:
        """The gates that a candidate has passed once it was screened."""
        return (SCREENED, GateResult(gate=Gate.DECONTAMINATION, passed=True, detail=self.decontamination.compared), UNIQUE)

    async def repository(self, address: str) -> GitRepository:
        """Opened once for each build: a mirror is not fetched anew for every candidate of it."""
        if address not in self._repositories:
            self._repositories[address] = await asyncio.to_thread(open_repository, address, self.mirrors, silent)
        return self._repositories[address]

    def has_repository(self, address: str, repository: GitRepository) -> None:
        """Have it in place of what the address leads to."""
        self._repositories[address] = repository

    async def like(self, task: Task) -> Earlier | None:
        """The task of another build that a question's task is like."""
        return await self.earlier.like(task, besides=self._questions)

    async def repeated(self, question: Question, task: Task) -> Rejection | None:
        """The rejection of a question's task that the catalogue has already, from another build."""
        first = await self.like(task)
        if first is None:
            return None
        return Rejection.of(question, Gate.DUPLICATE, first.reason, first.row.name, evidence=first.evidence)
