"""The attack gate: every exploit of the library must score 0 on the task."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import task_builders.validation.attacks.play as attacks
from envfarm.core.candidate import Gate
from envfarm.core.change import Change
from envfarm.core.task import Task
from envfarm.core.validation import AttackResult, GateResult
from task_builders.concurrency import all_of
from task_builders.validation.attacks.attack import Attack
from task_builders.validation.attacks.library import LIBRARY
from task_builders.validation.bench import Bench, Progress, silent

NAMED_MAX = 5


async def run(
    bench: Bench, task: Task, gold: Change, library: Sequence[Attack] = LIBRARY, *, progress: Progress = silent
) -> tuple[AttackResult, ...]:
    """Play every attack, as many at a time as the bench allows boxes. Raises what creating a box raises."""
    done = 0

    async def play(attack: Attack) -> AttackResult:
        nonlocal done
        async with bench.boxes:
            result = await attacks.play(place, context, attack)
        done += 1
        progress(f"attacks, {done} of {len(library)}")
        return result

    place = attacks.AttackSetup(
        task=task, grader=partial(bench.grader, brief=True), provider=bench.provider, environment=bench.environment, gold=gold
    )
    async with bench.boxes:
        context = await attacks.learn(place)
    results = await all_of(play(attack) for attack in library)
    # An attack without a score is played once more, alone: a busy machine must not look like an exploit that breaks its grader.
    return tuple([result if result.reward is not None else await play(attack) for attack, result in zip(library, results, strict=True)])


def judge(results: Sequence[AttackResult]) -> GateResult:
    """Every attack must be scored, and with 0. An attack that fails without the defences too is reported, but proves nothing; if that is
    so of all attacks, the gate fails.
    """
    through = [r for r in results if not attacks.held(r)]
    shown = sum(r.reward_undefended == 1.0 for r in results)
    vacuous = [r for r in results if attacks.vacuous(r)]
    held = len(results) - len(through)
    other = len(results) - shown - len(vacuous)
    undefended = f"{shown} score 1 where their defence is off, {len(vacuous)} do not, {other} have no such score"
    detail = f"{held} of {len(results)} score 0; {undefended}"
    evidence = {
        "through": {r.attack: r.detail for r in through[:NAMED_MAX]},
        "vacuous": {r.attack: r.detail for r in vacuous[:NAMED_MAX]},
        "defences": dict(Counter(r.defence for r in results)),
    }
    return GateResult(gate=Gate.ATTACKS, passed=shown > 0 and not through, detail=detail, evidence=evidence)
