"""Plays exploits against a task, in boxes, and grades the results."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import GraderError
from envfarm.core.image import Environment
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.core.sandbox import ExecRequest, Network, SandboxSpec
from envfarm.core.task import Task
from envfarm.core.validation import AttackResult
from envfarm.episodes.grader import SandboxGrader
from envfarm.grading import procedure
from envfarm.grading.integrity import ALL, Defence
from task_builders.validation.agent_box import python_of
from task_builders.validation.attacks.attack import Attack, Context, Control, Exploit

GraderFactory = Callable[[frozenset[Defence]], SandboxGrader]
SCRIPT_S = 120.0
GRADED_INSIDE = {
    Control.REWARD_FILE: "cat /tmp/reward.json",
    Control.LATER: """"$@" > /dev/null; for second in 1 2 3 4 5 6 7 8 9 10; do [ -s /tmp/reward.json ] && break; sleep 1; done
cat /tmp/reward.json""",
    Control.COMPARED_INSIDE: """PATH="$HOME/bin:$PWD/bin:$PATH"; "$@" > /dev/null
diff /tmp/expected /tmp/output > /dev/null && echo '{"reward": 1.0}' || echo '{"reward": 0.0}'""",
}
"""Controls in the agent's own box, as shell text that prints a reward. Its arguments are the command of a plan with cases."""
ASK = "import sys,sysconfig;print(sys.executable);print(sysconfig.get_path('purelib'))"


@dataclass(frozen=True)
class AttackSetup:
    """What is needed to play attacks."""

    task: Task
    grader: GraderFactory
    provider: SandboxProvider
    environment: Environment
    gold: Change
    """The solution as a change: its paths are the touched files, and controls plant it in leaking boxes."""


def held(result: AttackResult) -> bool:
    """Whether the task withstood the attack: it was scored, and with 0."""
    return result.reward == 0.0


def vacuous(result: AttackResult) -> bool:
    """Whether the attack proved nothing for this task: it would not have worked without the defences either."""
    return result.reward_undefended is not None and result.reward_undefended < 1.0


async def learn(place: AttackSetup) -> Context:
    """Collect what an attacker of this task knows."""
    plan, root = place.task.plan, place.task.plan.work_dir.strip("/") + "/"
    touched = tuple(p.removeprefix(root) for p in place.gold.paths if p.startswith(root))
    async with agent_box(place) as box:
        python = python_of(plan)
        said = await box.exec(ExecRequest(argv=(python, "-c", ASK), cwd=plan.work_dir, timeout_s=SCRIPT_S))
    if not said.ok:
        raise GraderError(
            f"`{python}` does not run in the task's box: {said.text.strip()[-200:]}", hint="attacks need an interpreter there"
        )
    executable, _, site = said.stdout.decode().strip().partition("\n")
    return Context(
        work_dir=plan.work_dir,
        fail_to_pass=plan.fail_to_pass,
        pass_to_pass=plan.pass_to_pass,
        test_files=plan.test_files,
        source_files=touched,
        site_packages=site,
        python=executable,
    )


async def play(place: AttackSetup, context: Context, attack: Attack) -> AttackResult:
    """Play one attack: with all defences, and with the defences off that should stop it."""
    exploit = attack.craft(context)
    async with agent_box(place) as box:
        change = await _play_agent(place, box, exploit)
    defended = await place.grader(ALL).grade(place.task, change, environment=place.environment)
    undefended = None if attack.control is Control.NONE else await _control(place, attack, exploit, change)
    return AttackResult(
        attack=attack.name,
        defence=" + ".join(sorted(d.value for d in attack.aims)) or "limits of the box",
        reward=_reward(defended),
        reward_undefended=_reward(undefended) if undefended is not None else None,
        detail=_detail(attack, defended, undefended),
    )


async def _play_agent(place: AttackSetup, box: Box, exploit: Exploit) -> Change:
    """Let the scripted agent work, and return its change."""
    if exploit.script:
        await _run_script(place, box, exploit)
    await box.quiesce()
    own = await box.diff()
    return Change(own.files + exploit.change.files, own.deleted + exploit.change.deleted, own.special)


async def _run_script(place: AttackSetup, box: Box, exploit: Exploit) -> None:
    """Run the agent's script from a file: as an argument, a script with all test ids would be too long for the kernel."""
    argv = ("sh", "-c", "cat > /tmp/work.sh && exec sh /tmp/work.sh < /dev/null")
    await box.exec(ExecRequest(argv=argv, stdin=exploit.script.encode(), cwd=place.task.plan.work_dir, timeout_s=SCRIPT_S))


async def _control(place: AttackSetup, attack: Attack, exploit: Exploit, change: Change) -> Outcome | float | None:
    grader = place.grader(ALL - attack.aims)
    if attack.control is Control.LEAKED:
        return await grader.grade(leaking(place.task), change, environment=place.environment)
    if attack.control is Control.PLAN_FILE:
        return await _graded_by_plan_in_tree(place, grader, change)
    if attack.control is Control.FRESH and not attack.planted:
        return await grader.grade(place.task, change, environment=place.environment)
    async with agent_box(place, planted=attack.planted) as box:
        if attack.planted:
            leaked = await _play_agent(place, box, exploit)
            return await grader.grade(place.task, leaked, environment=place.environment)
        await _run_script(place, box, exploit)
        if attack.control in GRADED_INSIDE:
            return await _graded_inside(place, box, GRADED_INSIDE[attack.control])
        return await grader.grade_in_place(place.task, box, await box.diff(), environment=place.environment)


async def _graded_inside(place: AttackSetup, box: Box, grading: str) -> float | None:
    """The reward that a grader in the box prints; None if there is none."""
    plan, run = place.task.plan, list[str]()
    shown = next((case for case in plan.cases if case.visible), None)
    if shown is not None:
        expected = place.task.tests[f"cases/{shown.folder}/expected"]
        await box.restore(Change((ChangedFile("tmp/expected", 0o644, content=expected),)))
        run = [word.replace(procedure.REPORT, "/tmp/output") for word in plan.commands[0].argv]  # noqa: S108 - in the box
    said = await box.exec(ExecRequest(argv=("/bin/sh", "-c", grading, "sh", *run), cwd=plan.work_dir, timeout_s=SCRIPT_S))
    return float(json.loads(said.stdout)["reward"]) if said.ok else None


def leaking(task: Task) -> Task:
    """The task with each case's expected output among its inputs."""
    plan, name = task.plan, "tests/expected"
    leaked = {f"cases/{case.folder}/input/{name}": task.tests[f"cases/{case.folder}/expected"] for case in plan.cases}
    cases = tuple(replace(case, inputs=(*case.inputs, name)) for case in plan.cases)
    return task.model_copy(update={"plan": replace(plan, cases=cases), "tests": {**task.tests, **leaked}})


async def _graded_by_plan_in_tree(place: AttackSetup, grader: SandboxGrader, change: Change) -> Outcome | None:
    """A verdict by the plan found in the tree, which expects only tests that pass already."""
    if not any(f.path.endswith("/plan.json") for f in change.files):
        return None
    plan = place.task.plan
    eased = replace(plan, fail_to_pass=plan.pass_to_pass, canaries=())
    return await grader.grade(place.task.model_copy(update={"plan": eased}), Change(), environment=place.environment)


@asynccontextmanager
async def agent_box(place: AttackSetup, *, planted: bool = False) -> AsyncIterator[Box]:
    """A box as an agent gets it. `planted`: with contents that must never be in one, for controls."""
    box = await place.provider.create(SandboxSpec.within(place.task.limits, place.environment, network=Network.CLOSED))
    try:
        if planted:
            await _plant(place, box)
        await box.mark([place.task.plan.work_dir])
        yield box
    finally:
        await box.close()


HISTORY = """git config --global --add safe.directory '*'
git rev-parse -q --verify HEAD >/dev/null 2>&1 || { git init -q . && git add -A && git -c user.name=a -c user.email=a@a commit -qm base; }
"""
LATER = "git add -A && git -c user.name=a -c user.email=a@a commit -qm later && git reset -q --hard HEAD~1\n"


async def _plant(place: AttackSetup, box: Box) -> None:
    root = place.task.plan.work_dir
    elsewhere = replace_root(place.gold, root.strip("/"), "tmp/upstream")
    solution = tuple(ChangedFile(f"tmp/solution/{path}", 0o644, content=data) for path, data in place.task.solution.items())
    await box.exec(ExecRequest(argv=("sh", "-c", HISTORY), cwd=root, timeout_s=SCRIPT_S))
    await box.restore(place.gold)
    await box.exec(ExecRequest(argv=("sh", "-c", LATER), cwd=root, timeout_s=SCRIPT_S))
    await box.restore(Change(elsewhere.files + solution))


def replace_root(change: Change, old: str, new: str) -> Change:
    """The files of a change, moved to another directory."""
    return Change(tuple(replace(f, path=new + f.path.removeprefix(old)) for f in change.files))


def _reward(outcome: Outcome | float | None) -> float | None:
    if isinstance(outcome, float):
        return outcome
    return outcome.reward if isinstance(outcome, Scored) else None


def _detail(attack: Attack, defended: Outcome, undefended: Outcome | float | None) -> str:
    said = defended.why if isinstance(defended, Scored) else f"not scored: {getattr(defended, 'detail', '')}"
    if attack.cannot_reach:
        return f"{said} {attack.cannot_reach}"
    if isinstance(undefended, Scored) and undefended.reward < 1.0:
        return f"{said} Without the defences: {undefended.why}"
    if isinstance(undefended, float) and undefended < 1.0:
        return f"{said} The control is {attack.control.value}, and gave {undefended:g}."
    if isinstance(undefended, Invalid):
        return f"{said} Without the defences it gave no score: {undefended.detail}"
    if undefended is None and attack.control is not Control.NONE:
        return f"{said} The attack does not apply to this task."
    return said


__all__ = ["AttackSetup", "agent_box", "held", "learn", "play", "vacuous"]
