"""The canary gate: find copies of a task's tests of which some must fail, and report how far they limit the score of a guess.

Which copies are possible is decided per language. Here they are tried in boxes; those that misbehave are left out.
"""

from asyncio import to_thread
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from math import floor

from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.plan import Canary
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from envfarm.grading import guesses
from task_builders.concurrency import all_of
from task_builders.languages.canary_set import CanarySet, both_ways
from task_builders.specs import make
from task_builders.validation import scoring
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import LanguageTools, of_language

REASON = "no canaries can be made: its tests give no copies of which some must fail"
UNBOUND = "a reader of the canaries can tell which of them must fail, so nothing limits the score of a forger made for this task"
ROUNDS = 2
"""Two are enough: the originals are known to be steady, and every repeat of gold draws and judges canaries again."""
LEGIBLE_BITS = 20
REHEARSALS = 4
"""How often the blind rounds of a grading are played at most, until no canary is wrong."""
SLOWER, MORE_S, COPY_S = 10.0, 60.0, 0.5
"""A run of copies may take so many times as long as the suite, so much more, and so much for each: a copy may never end."""


@dataclass(frozen=True)
class CanaryInputs:
    """What canaries are tried with."""

    bench: Bench
    solution: Change
    files: Mapping[str, bytes]
    """The sealed test files, by path in the work dir."""
    base: Mapping[str, str]
    """The text files of the tree that the agent sees."""
    narrowed: Callable[[Task], Task]
    """Returns the task with its plan reduced to the sealed files."""
    rounds: int = ROUNDS
    failing: Collection[str] = ()
    """Tests that do not always pass with the fix."""
    suite_s: float = 60.0
    """How long the suite takes with the fix."""


async def disguise(task: Task, tools: LanguageTools, inputs: CanaryInputs) -> tuple[Task, tuple[str, ...]]:
    """The task with those canaries that behave in every round, and notes on what is missing. Raises infrastructure errors."""
    plan = task.plan
    draft = await to_thread(
        tools.draft_canaries, inputs.files, plan.fail_to_pass, plan.pass_to_pass, inputs.failing, inputs.base, task.name
    )

    async def tried() -> tuple[Mapping[str, str], Mapping[str, str]]:
        at_fix, at_base = await all_of([_tried(task, draft.at_fix, inputs.solution, inputs), _tried(task, draft.at_base, Change(), inputs)])
        return at_fix, at_base

    at_fix, at_base = await tried()
    if draft.plainer(at_fix):
        at_fix, at_base = await tried()  # both: copies are named by their place among the alterations that are left
    made = draft.settled(at_fix, at_base)
    steady = await _steady(make.with_canaries(inputs.narrowed(task), made.canaries, made.templates), inputs)
    asked = binding(steady, plan.fail_to_pass)
    task = await rehearsed(make.with_canaries(task, asked, await to_thread(_asked_for, asked, made.templates, tools)), inputs, tools)
    bound = task.plan.canaries
    unaltered = {c.origin for c in bound if c.unaltered}
    counted = (
        f"{len(steady)} of {len(made.canaries)} canaries behave every time; {sum(not c.unaltered for c in bound)} are kept",
        f"{len(unaltered)} of {len(plan.fail_to_pass) + len(plan.pass_to_pass)} expected tests have an unaltered copy",
    )
    return task, (*made.notes, *counted)


def _asked_for(canaries: Sequence[Canary], templates: Mapping[str, bytes], tools: LanguageTools) -> dict[str, bytes]:
    """The templates with only those copies that a canary asks for. One that misbehaves may take the memory of the rest, or end it."""
    names: dict[str, set[str]] = {}
    for one in canaries:
        names.setdefault(one.template, set()).add(one.copy or one.id.rpartition("::")[2].partition("[")[0])
    return {template: tools.only_copies(templates[template], kept) for template, kept in names.items()}


async def _tried(task: Task, trial: CanarySet, change: Change, inputs: CanaryInputs) -> Mapping[str, str]:
    if not trial.canaries:
        return {}
    one = _bounded(make.with_canaries(inputs.narrowed(task), trial.canaries, trial.templates), inputs)
    async with inputs.bench.boxes:
        return await inputs.bench.grader().try_copies(one, change, environment=inputs.bench.environment)


def _bounded(task: Task, inputs: CanaryInputs) -> Task:
    """The task with a limit of time that suits its copies."""
    used = {f"canaries/{canary.template}" for canary in task.plan.canaries}
    copies = sum(text.count(b"def ") for path, text in task.tests.items() if path in used)
    return scoring.within(task, SLOWER * inputs.suite_s + MORE_S + COPY_S * copies)


async def _steady(task: Task, inputs: CanaryInputs) -> tuple[Canary, ...]:
    """The task's canaries that give the expected result in every round."""

    async def asked() -> Mapping[Canary, bool]:
        async with inputs.bench.boxes:
            one = _bounded(task, inputs)
            return await inputs.bench.grader().check_canaries(one, inputs.solution, environment=inputs.bench.environment)

    if not task.plan.canaries:
        return ()
    rounds = await all_of(asked() for _ in range(inputs.rounds))
    return tuple(canary for canary in task.plan.canaries if all(answered.get(canary, False) for answered in rounds))


async def rehearsed(task: Task, inputs: CanaryInputs, tools: LanguageTools) -> Task:
    """The task with those canaries that give the expected result as gradings draw them, of the whole task and of the narrowed one.

    Tests may pass beside some modules only. A test goes with all of its cases: where a set's order numbers them, the one that fails has
    another id in each run. Without these the rounds are others, so they are played again. If they never come out clean, gold judges.
    """

    async def wrong(one: Task) -> set[Canary]:
        async with inputs.bench.boxes:
            grader = inputs.bench.grader()
            return await grader.wrong_in_blind_rounds(_bounded(one, inputs), inputs.solution, environment=inputs.bench.environment)

    for _ in range(REHEARSALS):
        narrow = inputs.narrowed(task)
        found = set().union(*await all_of(wrong(one) for one in ([task] if narrow is task else [task, narrow])))
        if not found:
            break
        tests = guesses.tests_of(task.plan.canaries)
        unsteady = {tests[canary.origin] for canary in found}
        left = binding([c for c in task.plan.canaries if tests[c.origin] not in unsteady], task.plan.fail_to_pass)
        task = make.with_canaries(task, left, await to_thread(_asked_for, left, make.templates(task), tools))
    return task


def binding(canaries: Sequence[Canary], fail_to_pass: Sequence[str]) -> tuple[Canary, ...]:
    """Canaries of templates that have FAIL_TO_PASS copies of both kinds (must pass, must fail); if there are any, unaltered ones as well.

    Other templates would let a forger pass that gives the same answer for every test.
    """
    bound = both_ways(canaries, set(fail_to_pass))
    return tuple(c for c in canaries if c.template in bound or (c.unaltered and bound))


def judge(task: Task, notes: Sequence[str] = ()) -> GateResult:
    """There must be copies of both kinds. Whether they limit a guess is reported only. Imported tasks are judged by the same rule.

    `bounded` is a task whose canaries hold against guesses and against a rule that is fixed beforehand alike.
    """
    bits, weakest, rounds = guesses.blind_bits(task.plan), guesses.weakest_bits(task.plan), guesses.blind_rounds(task.plan)
    wanted = set(task.plan.fail_to_pass)
    kinds = Counter(
        ("unaltered" if c.unaltered else c.kind, "FAIL_TO_PASS" if c.origin in wanted else "PASS_TO_PASS") for c in task.plan.canaries
    )
    tools = of_language(task.language)
    of_a_rule = tools.rule_bits(task.plan.canaries, make.templates(task), wanted) if tools else 0.0
    passed = bool(task.plan.canaries) and binding(task.plan.canaries, task.plan.fail_to_pass) == task.plan.canaries
    guess = f"a guess succeeds in {_one_of(bits * rounds)} gradings, over {rounds} blind rounds ({_one_of(weakest * rounds)} where one test"
    guess += f" alone is to be forged); a rule fixed beforehand is right for {_one_of(of_a_rule)} such tasks"
    why = f"{REASON} ({'; '.join(notes)})" if notes else REASON
    detail = why if not passed else guess if guesses.bounds_guesses(task.plan) else UNBOUND
    evidence = {
        "canaries": {f"{kind} {group}": count for (kind, group), count in sorted(kinds.items())},
        "bits of a round": round(bits, 2),
        "bits of the weakest test": round(weakest, 2),
        "bits of a rule": round(of_a_rule, 2),
        "bounded": passed and guesses.bounds_guesses(task.plan) and of_a_rule >= guesses.BLIND_BITS,
        "notes": list(notes),
    }
    return GateResult(gate=Gate.CANARIES, passed=passed, detail=detail, evidence=evidence)


def _one_of(bits: float) -> str:
    return f"1 of {floor(2**bits)}" if bits < LEGIBLE_BITS else f"1 of 2^{floor(bits)}"
