"""What was seen when a task went through the gates. Not part of the task's digest; keyed by it."""

from datetime import datetime
from typing import Any, Literal

from envfarm.core.candidate import Gate
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, TaskDigest
from envfarm.core.image import Environment
from envfarm.core.outcome import TestStatus
from envfarm.core.plan import TestPlan

REQUIRED_GATES = frozenset({
    Gate.LICENCE, Gate.DECONTAMINATION, Gate.STATES, Gate.SUFFICIENCY, Gate.IDS, Gate.LEAK, Gate.CANARIES, Gate.GOLD, Gate.NOP,
    Gate.ATTACKS, Gate.EQUIVALENTS, Gate.MUTATION,
})  # fmt: skip
"""What a task must have passed to be valid, wherever it came from. The others ask what only its making can show: the source's shape,
duplicates in a build, the recipe's search."""
Standing = Literal["valid", "suspect", "unchecked"]
State = Literal["base", "base + tests", "base + tests + fix"]


class StateRun(Frozen):
    """One run of the suite in one state, in a fresh offline box."""

    state: State
    repeat: int
    variation: dict[str, str] = {}
    """What differed on purpose: order, seed, cores, locale, clock."""
    statuses: dict[str, TestStatus]
    exit_codes: tuple[int | None, ...]
    seconds: float
    timed_out: bool = False
    """Whether a command was killed at its time limit."""
    log_tail: str = ""


class Flake(Frozen):
    """A test that did not always say the same in one state."""

    id: str
    state: State
    counts: dict[str, int]


class AttackResult(Frozen):
    """One exploit tried against the task."""

    attack: str
    defence: str
    """The defence that it is aimed at."""
    reward: float | None
    """With every defence on: must be 0."""
    reward_undefended: float | None
    """With that one defence off: 1 shows that the attack is not vacuous; None where it was not tried."""
    detail: str = ""


class GateResult(Frozen):
    """One gate's verdict with its figures."""

    gate: Gate
    passed: bool
    detail: str = ""
    evidence: dict[str, Any] = {}


class Cost(Frozen):
    """What making and checking the task took."""

    build_s: float = 0.0
    """Making the shared layer; 0 where it was there."""
    checkout_s: float = 0.0
    validate_s: float = 0.0
    verify_s: float = 0.0
    """One grading of gold."""
    layer_bytes: int = 0
    checkout_bytes: int = 0
    layer_reused: bool = False
    writer_model: str = ""
    """The language model that wrote the task or was asked to; empty if none was."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


def grading_in_words(plan: TestPlan) -> str:
    """The mode in which a task is graded, and by what."""
    if plan.cases:
        return f"{plan.mode}, by its cases"
    files = {test.partition("::")[0] for test in (*plan.fail_to_pass, *plan.pass_to_pass)}
    others = len(files - {*plan.test_files})
    return f"{plan.mode}, by the fix's own test files{f' and {others} more' if others else ' alone'}"


class ValidationReport(Frozen):
    """The report of one validation of one task in one kind of box."""

    schema_version: Literal["1"] = "1"
    task: TaskDigest
    environment: Environment
    provider: str
    created_at: datetime
    gates: tuple[GateResult, ...]
    runs: tuple[StateRun, ...] = ()
    flakes: tuple[Flake, ...] = ()
    attacks: tuple[AttackResult, ...] = ()
    gold: tuple[float | None, ...] = ()
    nop: tuple[float | None, ...] = ()
    leak_proof: dict[str, Any] = {}
    cost: Cost = Cost()
    narrow: bool | None = None
    """Whether nop, attacks and equivalents were graded by the fix's own test files alone: what scores 0 there scores 0 on all of them.
    None in reports that do not tell."""

    @property
    def failed(self) -> tuple[Gate, ...]:
        """Gates that were not passed."""
        return tuple(g.gate for g in self.gates if not g.passed)

    @property
    def missing(self) -> tuple[Gate, ...]:
        """Required gates that nobody went through: left out on purpose, or without tools for the task's language yet."""
        return tuple(gate for gate in Gate if gate in REQUIRED_GATES - {g.gate for g in self.gates})

    @property
    def passed(self) -> bool:
        """Whether every required gate was passed, and none failed."""
        return not self.failed and not self.missing

    @property
    def standing(self) -> Standing:
        """What the task is by this report: "suspect" where a gate failed, "unchecked" where one is missing."""
        return "suspect" if self.failed else "unchecked" if self.missing else "valid"

    @property
    def in_words(self) -> str:
        """The standing, and the gates that it is because of."""
        if self.failed:
            return f"not valid: {', '.join(self.failed)}"
        return f"unchecked: not tried: {', '.join(self.missing)}" if self.missing else "valid"

    @property
    def graded_in_words(self) -> str:
        """What its gates were graded by."""
        if self.narrow is None:
            return "by what its gates were graded is not told"
        return "nop, attacks and equivalents by the fix's own test files" if self.narrow else "every gate by the whole plan"

    @property
    def environment_digest(self) -> Digest:
        """What it was validated in."""
        return self.environment.digest
