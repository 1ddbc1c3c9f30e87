"""The real stages of the pipeline: screening by the pure gates, then environment and minting. Made by the build command.

It joins rooms and decides nothing: what a candidate is, how it is set up and what it must pass stand elsewhere.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import TaskError
from envfarm.core.question import Question
from envfarm.core.task import Task
from envfarm.core.validation import GateResult, ValidationReport
from task_builders import machine_faults
from task_builders.intake import Intake
from task_builders.languages.profile import LanguageProfile
from task_builders.minting import Material, Mint, Rules, Tools
from task_builders.pipeline import Drafted, Minted, NamedSource, Record, Refused, Stage
from task_builders.questions.screening import NotUnderstood
from task_builders.questions.understanding import Understood
from task_builders.revalidation import revalidate
from task_builders.sources import git_history, releases, stackexchange_api
from task_builders.sources.patience import Patience
from task_builders.sources.releases import IndexAccess
from task_builders.sources.source_models import (
    GithubSource,
    GitSource,
    ReleasesSource,
    Source,
    StackexchangeApiSource,
    StackexchangeDumpSource,
)
from task_builders.sources.stackexchange_client import ApiAccess
from task_builders.terminal.minting import QuestionMint
from task_builders.validation.bench import Bench
from task_builders.writing import minting as writing
from task_builders.writing.writer import TaskWriter

TO_WRITE = frozenset({Gate.CANDIDATE, Gate.SETUP})
"""The gates at which a writer is asked about a question that is rejected."""


@dataclass
class MintingStages:
    """See `pipeline.Stages`. One for each build."""

    tools: Tools
    intake: Intake
    rules: Rules
    writer: TaskWriter | None = None
    """Is asked about questions of which the rules make no task."""

    def screen(self, record: Record) -> Drafted | Rejection:
        """See `pipeline.Stages`."""
        return self.intake.screen(record, writes=self.writer is not None)

    async def mint(self, record: Record, candidate: Drafted, stage: Stage) -> Minted | Refused:
        """See `pipeline.Stages`."""
        if isinstance(record, Question) and isinstance(candidate, Understood | NotUnderstood):
            return await self._mint_question(record, candidate, stage)
        if isinstance(record, Question) or isinstance(candidate, Understood | NotUnderstood):
            raise TaskError(f"{record.url}: a question and its understanding come together")
        await asyncio.to_thread(machine_faults.check, self.intake.mirrors.parent)
        repository = await self.intake.repository(candidate.repository)
        prepared = await self.tools.preparer.prepare(candidate, repository, stage)
        if isinstance(prepared, Rejection):
            return Refused(rejection=prepared, reached="candidate")
        bench = Bench(
            provider=self.tools.provider,
            environment=prepared.environment,
            blobs=self.tools.blobs,
            boxes=self.tools.boxes,
            cores=self.tools.cores,
        )
        material = Material(
            record=record,
            candidate=candidate,
            footing=prepared.footing,
            sealed=prepared.sealed,
            built=prepared.cost,
            screened=(
                *self.intake.passed,
                GateResult(gate=Gate.SETUP, passed=True, detail=f"the suite runs offline; tries: {prepared.attempts}"),
            ),
        )
        return await Mint(material, bench, self.rules, self.intake.profile.is_test, self.tools.now, stage).run()

    async def _mint_question(self, question: Question, candidate: Understood | NotUnderstood, stage: Stage) -> Minted | Refused:
        """By the rules; if they make no task of it, by the writer, if there is one."""

        def of(understood: Understood, **more: Any) -> QuestionMint:
            return QuestionMint(question, understood, self.tools, self.rules, self.intake.decontamination, self.intake.like, stage, **more)

        result: Minted | Refused
        if isinstance(candidate, Understood):
            found, result = candidate, await of(candidate).run()
        else:
            found, result = None, Refused(rejection=candidate.rejection, reached="record")
        if self.writer is None or isinstance(result, Minted) or result.rejection.gate not in TO_WRITE:
            return result
        stage("writer")
        return await writing.mint(question, result, found, self.writer, of)

    async def check(self, task: Task, stage: Stage) -> ValidationReport:
        """See `pipeline.Stages`."""
        return await revalidate(task, self.tools, self.rules, known=self.intake.decontamination, progress=stage)


@dataclass(frozen=True)
class Reach:
    """How sources are reached."""

    profile: LanguageProfile
    directory: Path
    """Where mirrors, answers and archives are kept."""
    github_token: str
    index_url: str
    told: Callable[[str], None]
    """Is told what a source waits for."""
    stackexchange_key: str = ""


def named_source(source: Source, reach: Reach) -> NamedSource:
    """One source of a file, ready to be read."""
    match source:
        case GitSource():
            name = source.name or source.repository
            return NamedSource(name, lambda: git_history.read(source, reach.profile, reach.directory / "mirrors", reach.told))
        case GithubSource():
            from task_builders.sources import github  # noqa: PLC0415 - its client is slow to import, and few need it

            access = github.GithubAccess(token=reach.github_token, patience=Patience(progress=reach.told))
            return NamedSource(source.repository, lambda: github.read(source, reach.profile, reach.directory / "github", access))
        case ReleasesSource():
            index = IndexAccess(url=reach.index_url, patience=Patience(progress=reach.told))
            return NamedSource(source.package, lambda: releases.read(source, reach.profile, reach.directory / "releases", index))
        case StackexchangeDumpSource():
            from task_builders.sources import stackexchange_dump  # noqa: PLC0415 - see above

            return NamedSource(source.path, lambda: stackexchange_dump.read(source, reach.directory / "dumps", reach.told))
        case StackexchangeApiSource():
            site = ApiAccess(key=reach.stackexchange_key, patience=Patience(progress=reach.told))
            return NamedSource(source.site, lambda: stackexchange_api.read(source, reach.directory / "stackexchange", site))
