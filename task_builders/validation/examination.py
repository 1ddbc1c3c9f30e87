"""The gates that need boxes, for one task on one bench, and the report of what they saw.

Each method collects evidence and keeps the verdict of its gate's module. The caller decides the order. Nothing here repairs a task.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from envfarm.core.change import Change
from envfarm.core.errors import GraderError
from envfarm.core.task import Task
from envfarm.core.validation import AttackResult, Cost, Flake, GateResult, StateRun, ValidationReport
from envfarm.images.history_proof import history_proof
from task_builders.candidates.upstream import UNKNOWN, Upstream
from task_builders.terminal import derived_programs
from task_builders.terminal import leaks as terminal_leaks
from task_builders.validation import attack_gate, canary_gate, cost, gold, ids, leak, licence, nop, scoring, starting_tree, variants
from task_builders.validation.agent_box import python_of
from task_builders.validation.attacks.library import LIBRARY
from task_builders.validation.bench import Bench, Progress, silent
from task_builders.validation.scoring import Score

REPEATS = 5
"""Default number of repeats. It finds most flakes; the report says how much it proves."""


NO_HISTORY = {"clean": True, "findings": "a terminal task's work dir is not a repository"}
HOST_FOLDERS = ("/usr",)
"""Directories of the host that boxes over local layers show."""


@dataclass
class Examination:
    """What is known of one task so far."""

    bench: Bench
    task: Task
    repeats: int = REPEATS
    progress: Progress = silent
    solution: Change = field(default_factory=Change)
    """The change of the task's own solution, once it has been applied."""
    results: list[GateResult] = field(default_factory=list)
    runs: tuple[StateRun, ...] = ()
    flakes: tuple[Flake, ...] = ()
    attacks: tuple[AttackResult, ...] = ()
    gold_scores: tuple[Score, ...] = ()
    nop_scores: tuple[Score, ...] = ()
    leak_proof: dict[str, Any] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Tests that the instruction does not suffice for, and why."""
    upstream: Upstream = UNKNOWN
    """What the record says of the upstream project beyond the task itself."""

    narrow: Task | None = None
    """The task with its plan reduced to its sealed files, for gates that grade often: if it scores 0, so does the whole task. None: use the
    task itself.
    """

    def keep(self, result: GateResult) -> GateResult:
        """Add a gate's verdict to the report."""
        self.results.append(result)
        return result

    async def base_texts(self) -> dict[str, str]:
        """The text files in the agent's work dir."""
        checkout = self.bench.environment.checkout
        if checkout is None:
            return {}
        return starting_tree.texts(await self.bench.blobs.get(checkout.digest), self.task.plan.work_dir)

    async def check_ids(self) -> GateResult:
        """Nothing that the agent reads leads to the published fix."""
        return self.keep(ids.judge(self.task, self.upstream, {path.partition("/")[0] for path in await self.base_texts()}))

    async def check_licence(self) -> GateResult:
        """The licence and the origin of the work are known."""
        return self.keep(licence.judge(self.task))

    async def check_leaks(self) -> GateResult:
        """Nothing in a fresh box reveals the fix."""
        self.progress("leak proof")
        tree = await self.base_texts()
        is_terminal = self.task.kind == "terminal"
        lines = (
            terminal_leaks.lines(self.task)
            if is_terminal
            else leak.distinctive_lines(self.task.solution.get("patch.diff", b"").decode(errors="replace"), starting_tree.joined(tree))
        )
        root = self.task.plan.work_dir.strip("/") + "/"
        touched = [path.removeprefix(root) for path in self.solution.paths if path.startswith(root)]
        async with self.bench.agent_box(self.task) as box:
            history = NO_HISTORY if is_terminal else await history_proof(box, work_dir=self.task.plan.work_dir)
            packages = () if is_terminal else leak.package_names([p for p in touched if p in tree], list(tree))
            image = self.bench.environment.image
            machine = () if image.kind == "oci" else (*HOST_FOLDERS, *(f"/opt/{name}" for name in image.toolchains))
            seen = await leak.search(
                box,
                lines=lines,
                packages=packages,
                work_dir=self.task.plan.work_dir,
                python=python_of(self.task.plan),
                machine=machine,
                passed_over=machine if is_terminal else (),  # any program has lines in common with an interpreter's library
            )
        result = self.keep(leak.judge(history, seen))
        self.leak_proof = dict(result.evidence)
        return result

    def check_canaries(self, notes: Sequence[str] = ()) -> GateResult:
        """The canaries limit what a guess can score."""
        return self.keep(canary_gate.judge(self.task, notes))

    async def check_gold(self) -> GateResult:
        """The task's own solution scores 1 every time."""
        self.progress(f"gold, {self.repeats} times")
        self.gold_scores = await gold.run(self.bench, self.task, self.repeats)
        return self.keep(gold.judge(self.gold_scores))

    async def check_nop(self) -> GateResult:
        """Doing nothing scores 0 every time."""
        self.progress(f"nop, {self.repeats} times")
        self.nop_scores = await nop.run(self.bench, self.task, self.repeats, gold_s=self._gold_s, narrow=self.narrow)
        return self.keep(nop.judge(self.nop_scores))

    async def check_attacks(self) -> GateResult:
        """Every exploit of the library scores 0. If doing nothing ran out of time, so will most of them: they get less."""
        self.progress("attacks")
        task = self.narrow or self.task
        task = scoring.after_a_hang(task, self._gold_s) if any(score.timed_out for score in self.nop_scores) else task
        library = derived_programs.attacks(self.task) if self.task.kind == "terminal" else LIBRARY
        self.attacks = await attack_gate.run(self.bench, task, self.solution, library, progress=self.progress)
        return self.keep(attack_gate.judge(self.attacks))

    async def check_equivalents(self) -> GateResult:
        """Equivalent solutions score 1 on the tests that came with the fix."""
        self.progress("equivalent solutions")
        return self.keep(await variants.equivalents(self.bench, self.narrow or self.task, self.solution, await self.base_texts()))

    async def check_mutants(self) -> GateResult:
        """Wrong solutions score 0, most of them."""
        self.progress("wrong solutions")
        base, narrow = await self.base_texts(), self.narrow or self.task
        return self.keep(await variants.mutation_score(self.bench, self.task, self.solution, base, narrow=narrow, gold_s=self._gold_s))

    @property
    def _gold_s(self) -> float:
        """How long the solution's slowest grading took."""
        return max((score.seconds for score in self.gold_scores), default=self.task.limits.verifier_s)

    def report(self, *, provider: str, now: datetime, built: Cost, seconds: float) -> ValidationReport:
        """Everything that was seen."""
        return ValidationReport(
            task=self.task.digest,
            environment=self.bench.environment,
            provider=provider,
            created_at=now,
            gates=tuple(self.results),
            runs=self.runs,
            flakes=self.flakes,
            attacks=self.attacks,
            gold=tuple(score.reward for score in self.gold_scores),
            nop=tuple(score.reward for score in self.nop_scores),
            leak_proof=self.leak_proof,
            cost=cost.with_checks(built, validate_s=seconds, gold=self.gold_scores),
            narrow=self.narrow is not None and self.narrow.plan != self.task.plan,
        )


async def first_failure(checks: Sequence[Callable[[], Awaitable[GateResult]]]) -> GateResult | None:
    """Go through gates in order; the first that is not passed, or None."""
    for check in checks:
        result = await check()
        if not result.passed:
            return result
    return None


def require_solution(exit_code: int | None, log: str) -> None:
    """A solution that no longer applies is the environment's fault: it applied when the task was made."""
    if exit_code != 0:
        raise GraderError(f"the task's own solution does not apply: {log[-500:]}")
