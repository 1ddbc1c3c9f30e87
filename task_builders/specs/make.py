"""Makes a task of a candidate and its environment. Pure.

A draft has the commands and sealed files but expects no tests yet; `finish` adds the results of the measurements.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from envfarm.core.candidate import Candidate
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.plan import Canary, Skipped, TestCommand, TestPlan
from envfarm.core.recipe import Recipe
from envfarm.core.task import Attribution, Limits, Task
from task_builders.specs.naming import task_name
from task_builders.specs.sealed import SealedFiles
from task_builders.specs.solution import solution_files

SECONDS_PER_RUN = 10.0
"""The verifier's time limit is this many times gold's duration, for slower machines, smaller boxes and canaries that run twice."""
MIN_VERIFIER_S, MAX_VERIFIER_S = 300.0, 3600.0
MAX_NAMED_FILES = 2000
"""More would not fit on a command line."""


class Footing(Frozen):
    """What a candidate's environment contributes to its plan."""

    recipe: Recipe
    checkout: Digest | None
    commands: tuple[TestCommand, ...]
    narrow_commands: tuple[TestCommand, ...] = ()
    """Commands that run only the fix's own test files, for gates that grade often. Not part of the task."""
    influencing: tuple[str, ...]
    influencing_outside: tuple[str, ...] = ()
    limits: Limits = Limits()


def draft(candidate: Candidate, footing: Footing, sealed: SealedFiles) -> Task:
    """The task before anything is known of its tests."""
    plan = TestPlan(
        work_dir=footing.recipe.work_dir,
        commands=footing.commands,
        fail_to_pass=(),
        pass_to_pass=(),
        test_files=tuple(sorted(sealed.files)),
        removed_files=sealed.removed,
        executable_files=sealed.executable,
        linked_files=sealed.linked,
        influencing=footing.influencing,
        influencing_outside=footing.influencing_outside,
    )
    return Task(
        name=task_name(candidate),
        kind="repo",
        language=candidate.language,
        instruction=candidate.instruction,
        created_at=candidate.created_at,
        attribution=Attribution(licence=candidate.licence, author=candidate.author, url=candidate.url),
        recipe=footing.recipe,
        checkout=footing.checkout,
        plan=plan,
        limits=footing.limits,
        solution=solution_files(candidate.source_patch),
        tests=sealed.tests,
    )


def finish(task: Task, *, fail_to_pass: Sequence[str], pass_to_pass: Sequence[str], left_out: Mapping[str, str]) -> Task:
    """The draft with its expected tests, and those left out with the reason."""
    kept_out = {test: why for test, why in left_out.items() if test not in {*fail_to_pass, *pass_to_pass}}
    plan = replace(
        task.plan,
        fail_to_pass=tuple(sorted(fail_to_pass)),
        pass_to_pass=tuple(sorted(pass_to_pass)),
        skipped=tuple(Skipped(test, why) for test, why in sorted(kept_out.items())),
    )
    return task.model_copy(update={"plan": plan})


def without(task: Task, left_out: Mapping[str, str]) -> Task:
    """The task without these PASS_TO_PASS tests (id → why) and their canaries."""
    plan = replace(
        task.plan,
        pass_to_pass=tuple(test for test in task.plan.pass_to_pass if test not in left_out),
        skipped=tuple(sorted([*task.plan.skipped, *(Skipped(test, why) for test, why in left_out.items())], key=lambda one: one.id)),
    )
    kept = [canary for canary in plan.canaries if canary.origin not in left_out]
    return with_canaries(task.model_copy(update={"plan": plan}), kept, templates(task))


def naming_every_file(task: Task, narrow: Sequence[TestCommand]) -> Task:
    """The task with a first command that names each file with an expected test, in the place where `narrow` names the sealed ones.

    Given only canary files, a runner runs nothing else; and some, given a directory and a file in it, run only the file. If `narrow` names
    no file, the plan stays as it is.
    """
    sealed = set(task.plan.test_files)
    argv = list(narrow[0].argv) if narrow else []
    named = [n for n, argument in enumerate(argv) if argument in sealed]
    files = sorted({test.partition("::")[0] for test in (*task.plan.fail_to_pass, *task.plan.pass_to_pass)})
    if not named or len(files) > MAX_NAMED_FILES:
        return task
    without = [argument for argument in argv if argument not in sealed]
    whole = replace(task.plan.commands[0], argv=(*without[: named[0]], *files, *without[named[0] :]))
    return task.model_copy(update={"plan": replace(task.plan, commands=(whole, *task.plan.commands[1:]))})


def failing_last(commands: Sequence[TestCommand], failing: Collection[str]) -> tuple[TestCommand, ...]:
    """The commands with the files last, behind the canaries, that have a test which fails with the fix: some spoil all that follows."""

    def ordered(argv: Sequence[str]) -> tuple[str, ...]:
        return (*(a for a in argv if a not in failing), *(a for a in argv if a in failing))

    return tuple(replace(command, argv=ordered(command.argv)) for command in commands)


def with_canaries(task: Task, canaries: Sequence[Canary], templates: Mapping[str, bytes]) -> Task:
    """The task with its canaries and only the templates that they use."""
    used = {canary.template for canary in canaries}
    tests = {path: data for path, data in task.tests.items() if not path.startswith("canaries/")}
    tests |= {f"canaries/{name}": data for name, data in sorted(templates.items()) if name in used}
    return task.model_copy(update={"plan": replace(task.plan, canaries=tuple(canaries)), "tests": tests})


def narrowed(task: Task, commands: tuple[TestCommand, ...]) -> Task:
    """The task with its plan reduced to the sealed test files. A change that scores 0 on it scores 0 on the whole, which requires more."""
    if not commands or commands == task.plan.commands:
        return task
    sealed = set(task.plan.test_files)
    kept = tuple(test for test in task.plan.pass_to_pass if test.partition("::")[0] in sealed)
    if any(test.partition("::")[0] not in sealed for test in task.plan.fail_to_pass):
        return task
    expected = {*task.plan.fail_to_pass, *kept}
    asked = tuple(canary for canary in task.plan.canaries if not canary.unaltered or canary.origin in expected)
    return with_canaries(
        task.model_copy(update={"plan": replace(task.plan, commands=commands, pass_to_pass=kept)}),
        asked,
        templates(task),
    )


def templates(task: Task) -> dict[str, bytes]:
    """The task's canary files by name."""
    return {path.removeprefix("canaries/"): data for path, data in task.tests.items() if path.startswith("canaries/")}


def with_verifier_time(task: Task, gold_s: float) -> Task:
    """The task with a verifier time limit that fits the duration of its tests."""
    verifier_s = float(round(min(MAX_VERIFIER_S, max(MIN_VERIFIER_S, gold_s * SECONDS_PER_RUN))))
    return task.model_copy(update={"limits": task.limits.model_copy(update={"verifier_s": verifier_s})})
