"""From a candidate to what its task stands on: the environment, the checkout of the base, the commands, what it cost.

Called by the stages. The ladder is climbed with the tree as it is at the fix, where the suite must run; the agent's environment is then the
same recipe over the base.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.errors import BoxBroken, ImageError
from envfarm.core.frozen import Frozen
from envfarm.core.image import BlobRef, Built, Environment
from envfarm.core.plan import TestCommand
from envfarm.core.protocols import BlobStore
from envfarm.core.validation import Cost
from envfarm.images.checkout import checkout_archive
from task_builders import machine_faults
from task_builders.environment_attempts import NoSetUp, SetUp
from task_builders.environments import Workshop, set_up
from task_builders.languages.git_tree import GitTree
from task_builders.languages.profile import LanguageProfile
from task_builders.languages.project import Project
from task_builders.pipeline import Stage
from task_builders.sources.git import GitRepository
from task_builders.specs import protection
from task_builders.specs.make import Footing
from task_builders.specs.sealed import SealedFiles, sealed_files
from task_builders.validation import cost
from task_builders.validation.language_tools import of_language

CANARIES = "{canaries}"
WHOLE_SUITE_S = 90.0
"""A suite that takes longer is not run whole in every grading: the plan then runs the files that the fix's tests part touches."""


class Prepared(Frozen):
    """What a task stands on."""

    footing: Footing
    environment: Environment
    sealed: SealedFiles
    cost: Cost
    attempts: int


class Found(NamedTuple):
    """What the ladder came to."""

    project: Project
    set_up: SetUp
    base: BlobRef
    """The base commit's own checkout."""
    built: Built
    """Over the base."""


@dataclass(frozen=True)
class Preparer:
    """What environments are made with."""

    workshop: Workshop
    profile: LanguageProfile
    blobs: BlobStore

    async def prepare(self, candidate: Candidate, repository: GitRepository, stage: Stage) -> Prepared | Rejection:
        """Climb the ladder. Raises what is not the candidate's fault: `SandboxError`, `StoreError`, `BuildOutage`."""
        stage("environment")
        project = await asyncio.to_thread(_project, candidate, repository)
        checkout = await self._checkout(repository.path, candidate.fix_commit)
        found = await set_up(project, date=candidate.created_at, checkout=checkout, profile=self.profile, workshop=self.workshop)
        if isinstance(found, NoSetUp):
            return _rejection(candidate, found)
        stage("base")
        base = await self._checkout(repository.path, candidate.base_commit)
        try:
            built = await self.workshop.builder.build(found.recipe, checkout=base)
        except (ImageError, BoxBroken) as e:
            if isinstance(e, ImageError):
                machine_faults.blame(e)
            # The same machinery has just built the fix: it is this commit that cannot be had.
            return Rejection.of(candidate, Gate.SETUP, "the base cannot be built in the fix's environment", str(e))
        everything = Found(project=project, set_up=found, base=base, built=built)
        return await asyncio.to_thread(self._prepared, candidate, repository, everything)

    async def _checkout(self, repository: Path, commit: str) -> BlobRef:
        return await self.blobs.put(await asyncio.to_thread(checkout_archive, repository, commit))

    def _prepared(self, candidate: Candidate, repository: GitRepository, found: Found) -> Prepared | Rejection:
        try:
            sealed = sealed_files(repository, candidate.fix_commit, candidate.test_paths, candidate.removed_test_paths)
        except ValueError as e:
            return Rejection.of(candidate, Gate.CANDIDATE, "the tests' files are too large", str(e))
        narrow = self._commands(found.project, found.set_up, [path for path in candidate.test_paths if path in sealed.files])
        footing = Footing(
            recipe=found.set_up.recipe,
            # The commit's own tree and not what the project's steps made of it here: the same task on every machine.
            checkout=found.base.digest,
            commands=narrow if found.set_up.tests_s > WHOLE_SUITE_S else self._commands(found.project, found.set_up, ()),
            narrow_commands=narrow,
            influencing=protection.influencing(self.profile.influencing, found.project.tree.paths(), self.profile.is_test),
            influencing_outside=self.profile.influencing_outside,
        )
        attempts = len(found.set_up.attempts)
        spent = cost.of_builds((*found.set_up.facts, found.built.facts))
        return Prepared(footing=footing, environment=found.built.environment, sealed=sealed, cost=spent, attempts=attempts)

    def _commands(self, project: Project, found: SetUp, test_paths: Sequence[str]) -> tuple[TestCommand, ...]:
        """The whole suite where it is quick, or these files."""
        commands = self.profile.commands(project, found.recipe, test_paths)
        if of_language(self.profile.name) is None or any(CANARIES in command.argv for command in commands):
            return commands
        return (replace(commands[0], argv=(*commands[0].argv, CANARIES)), *commands[1:])


def _project(candidate: Candidate, repository: GitRepository) -> Project:
    tree = GitTree(repository, candidate.fix_commit)
    return Project(candidate.name, tree, latest_release=tree.latest_release())


def _rejection(candidate: Candidate, found: NoSetUp) -> Rejection:
    attempts: list[dict[str, Any]] = [a.model_dump(mode="json") for a in found.attempts]
    return Rejection.of(candidate, Gate.SETUP, found.reason, found.detail, evidence={"attempts": attempts})
