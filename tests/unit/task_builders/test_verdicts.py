"""The verdicts of the grading gates: gold, nop, attacks, variants, and whether a plan still holds."""

import asyncio
from dataclasses import replace

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import BoxLost, GraderError, SandboxError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Finding, Integrity, Invalid, Mismatch, Scored
from envfarm.core.outcome import TestReport as SuiteReport
from envfarm.core.plan import Canary
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills, SandboxSpec
from envfarm.core.task import Task
from envfarm.core.validation import AttackResult
from envfarm.grading.integrity import IN_TIME
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.factories import make_plan
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider
from task_builders.languages.variant import Variant
from task_builders.validation import agent_box, attack_gate, gold, nop, scoring, variants
from task_builders.validation.bench import Bench
from task_builders.validation.scoring import Score


def score(reward: float) -> Score:
    return Score(reward=reward, why="because", seconds=1.0)


@pytest.mark.parametrize(("rewards", "passed"), [([1.0] * 5, True), ([1.0, 0.0, 1.0], False), ([], False)])
def test_gold_must_score_one_every_time(rewards: list[float], *, passed: bool) -> None:
    result = gold.judge([score(r) for r in rewards])
    assert result.passed == passed
    assert result.evidence["rewards"] == rewards


def test_of_a_visible_case_that_gold_fails_the_evidence_has_what_was_wanted_and_printed() -> None:
    report = SuiteReport(fail_to_pass={"f": False}, mismatch=Mismatch("f", "1\n", "", 127))
    failed = scoring.score_of(Scored(0.0, {}, report, Integrity("replayed"), ""))
    assert gold.judge([score(1.0), failed]).evidence["mismatch"] == {"case": "f", "wanted": "1\n", "printed": "", "exit_code": 127}


def test_flaky_tests_are_those_that_alone_keep_gold_from_one() -> None:
    plan = make_plan(fail_to_pass=("f",), pass_to_pass=("a", "b", "c"))
    good, bad = score(1.0), score(0.0)

    def found(*scores: Score) -> list[tuple[str, dict[str, int]]]:
        return [(flake.id, flake.counts) for flake in gold.flaky(scores, plan)]

    one = bad.model_copy(update={"unmet": ("b",)})
    assert found(good, one, one) == [("b", {"passed": 1, "failed": 2})]
    assert found(good, good) == []
    assert found(one, bad) == [], "something else is wrong"
    assert found(good, bad.model_copy(update={"unmet": ("b", "f")})) == [], "what the task asks for is flaky"
    assert found(one, bad.model_copy(update={"unmet": ("c",)})) == [], "too many"
    assert not gold.flaky((good, one), plan, left_out=1), "too many with those of the round before"


def test_what_a_score_blames_on_tests_alone() -> None:
    report = SuiteReport(fail_to_pass={"f": True}, pass_to_pass={"a": True, "b": False})
    assert scoring.score_of(Scored(0.0, {}, report, Integrity("isolated"), "")).unmet == ("b",)
    doubted = Integrity("isolated", (Finding("canaries", ok=False),))
    assert scoring.score_of(Scored(0.0, {}, report, doubted, "")).unmet == ()


@pytest.mark.parametrize(("rewards", "passed"), [([0.0] * 5, True), ([0.0, 1.0], False), ([0.5], False), ([], False)])
def test_nop_must_score_zero_every_time(rewards: list[float], *, passed: bool) -> None:
    assert nop.judge([score(r) for r in rewards]).passed == passed


def test_fault_of_the_infrastructure_is_no_score() -> None:
    with pytest.raises(GraderError, match="the daemon is down"):
        scoring.score_of(Invalid(cause="sandbox", retryable=True, detail="the daemon is down"))
    graded = Scored(1.0, {}, SuiteReport(duration_s=2.0), Integrity("isolated"), "all pass")
    assert scoring.score_of(graded) == Score(reward=1.0, why="all pass", seconds=2.0)


@pytest.mark.parametrize(("failures", "tried"), [(1, 2), (9, 3)])
async def test_a_grading_is_tried_again_where_the_infrastructure_failed_for_a_moment(failures: int, tried: int) -> None:
    async def passing(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=0)

    provider = ScriptedProvider(answer=passing, create_failures=[SandboxError("no room") for _ in range(failures)])
    environment = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed")
    bench = Bench(provider, environment, MemoryBlobs(), asyncio.Semaphore(1))
    if tried > failures:
        assert (await scoring.grade_once(bench, small_task.make(), Change(), retry_s=(0.0, 0.0))).reward == 0.0
    else:
        with pytest.raises(GraderError, match="no room"):
            await scoring.grade_once(bench, small_task.make(), Change(), retry_s=(0.0, 0.0))
    assert failures - len(provider.create_failures) == min(failures, tried)


async def test_a_machine_without_memory_says_nothing_of_a_solution() -> None:
    class Killed(ScriptedBox):
        def memory_kills(self) -> MemoryKills:
            return MemoryKills(killed=len(self.requests), shared=False, limit_bytes=1 << 30)

    class Provider(ScriptedProvider):
        async def create(self, spec: SandboxSpec) -> ScriptedBox:
            return Killed(spec, self.answer)

    async def killed(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=137)

    environment = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed")
    with pytest.raises(BoxLost, match="ran out of memory"):
        await agent_box.solved(Bench(Provider(answer=killed), environment, MemoryBlobs(), asyncio.Semaphore(1)), small_task.make())


def report() -> bytes:
    """Of a suite in which all that the small task expects passes."""
    plan = small_task.make().plan
    cases = []
    for test in plan.fail_to_pass + plan.pass_to_pass:
        file, *classes, name = test.split("::")
        dotted = ".".join([file.removesuffix(".py").replace("/", "."), *classes])
        cases.append(f'<testcase classname="{dotted}" name="{name}" file="{file}"/>')
    return f"<testsuites>{''.join(cases)}</testsuites>".encode()


def with_canary() -> Task:
    """The small task with a canary, which never behaves in a scripted box: graded with it, nothing scores 1."""
    task = small_task.make()
    canary = Canary("renamed", "copy.py", "tests/test_{token}.py", "tests/test_{token}.py::test", origin=small_task.FAIL_TO_PASS[0])
    return task.model_copy(
        update={"plan": replace(task.plan, canaries=(canary,)), "tests": {**task.tests, "canaries/copy.py": b"def test(): pass"}}
    )


def bench_of(runs: list[str], *, passes: bool) -> Bench:
    """A bench that keeps the last argument of every test run: a canary's file, or what the command ends with."""

    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        if "pytest" in request.argv:
            runs.append(request.argv[-1])
            if passes and not request.argv[-1].startswith("tests/test_"):
                box.files[next(a.partition("=")[2] for a in request.argv if a.startswith("--junitxml="))] = report()
        return ExecResult(exit_code=0)

    environment = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir=small_task.WORK_DIR)
    return Bench(ScriptedProvider(answer=answer), environment, MemoryBlobs(), asyncio.Semaphore(1))


@pytest.mark.parametrize("passes", [True, False])
async def test_only_mutants_that_pass_the_narrow_tests_are_graded_with_the_whole_task(*, passes: bool) -> None:
    task = with_canary()
    plain = task.plan.commands[0]
    narrow = task.model_copy(update={"plan": replace(task.plan, commands=(replace(plain, argv=(*plain.argv, "--narrow")),))})
    gold = Change((ChangedFile("testbed/shelf/labels.py", 0o644, content=small_task.FIXED.encode()),))
    runs: list[str] = []
    result = await variants.mutation_score(
        bench_of(runs, passes=passes), task, gold, {"shelf/labels.py": small_task.LABELS}, narrow=narrow, gold_s=1.0
    )
    mutants = len(result.evidence["variants"])
    assert mutants > 0
    assert result.evidence["score"] == 1.0
    assert runs.count("--narrow") == mutants, "each is tried with the narrow tests once, without canaries"
    assert len(runs) == (2 * mutants if passes else mutants)


async def test_the_first_nop_says_which_tests_fail_and_the_others_end_at_the_canaries() -> None:
    runs: list[str] = []
    scores = await nop.run(bench_of(runs, passes=False), with_canary(), 3, gold_s=1.0)
    assert [score.reward for score in scores] == [0.0] * 3
    assert "expected tests do not pass" in scores[0].why
    assert len(runs) == 2 + 1 + 1


async def test_the_first_nop_runs_the_tasks_own_command_and_the_others_the_narrow_one() -> None:
    runs: list[str] = []
    task = with_canary()
    commands = (replace(task.plan.commands[0], argv=(*task.plan.commands[0].argv, "--narrow")),)
    narrow = task.model_copy(update={"plan": replace(task.plan, commands=commands)})
    await nop.run(bench_of(runs, passes=False), task, 3, gold_s=1.0, narrow=narrow)
    assert [run == "--narrow" for run in runs] == [False, False, True, True]


async def test_bad_first_grading_saves_no_error_and_counts_the_rest() -> None:
    left = [1.0, 0.0, 1.0]

    async def once() -> Score:
        return score(left.pop(0))

    assert [s.reward for s in await scoring.several(3, once)] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(("reward", "passed"), [(0.0, True), (1.0, False), (None, False)])
def test_one_exploit_that_scores_or_cannot_be_scored_fails_the_gate(reward: float | None, *, passed: bool) -> None:
    good = AttackResult(attack="conftest", defence="d", reward=0.0, reward_undefended=1.0)
    vacuous = AttackResult(attack="mining", defence="d", reward=0.0, reward_undefended=0.0)
    tried = AttackResult(attack="forgery", defence="d", reward=reward, reward_undefended=None, detail="how it went")
    result = attack_gate.judge([good, vacuous, tried])
    assert result.passed == passed
    assert "1 score 1 where their defence is off, 1 do not, 1 have no such score" in result.detail
    assert result.evidence["through"] == ({} if passed else {"forgery": "how it went"})
    assert result.evidence["vacuous"] == {"mining": ""}


def test_no_attack_that_would_have_worked_is_no_pass() -> None:
    assert not attack_gate.judge([]).passed
    assert not attack_gate.judge([AttackResult(attack="mining", defence="d", reward=0.0, reward_undefended=0.0)]).passed


def variant(line: int) -> Variant:
    return Variant("condition inverted", "a.py", line, {"a.py": b"changed"})


@pytest.mark.parametrize(("killed", "of", "passed"), [(5, 10, True), (4, 10, False), (0, 3, True), (0, 0, True)])
def test_mutation_score_rejects_when_most_of_enough_mutants_live(killed: int, of: int, *, passed: bool) -> None:
    made = [variant(n) for n in range(of)]
    result = variants.judge_mutants(made, [score(0.0 if n < killed else 1.0) for n in range(of)])
    assert result.passed == passed
    assert result.evidence["score"] == (round(killed / of, 3) if of else None)


def test_mutants_that_were_killed_for_their_time_are_counted() -> None:
    late = Scored(0.0, {}, SuiteReport(), Integrity("isolated", (Finding(IN_TIME, ok=False, detail="killed after 9 s"),)), "late")
    result = variants.judge_mutants([variant(1), variant(2)], [scoring.score_of(late), score(0.0)])
    assert "2 of 2 wrong solutions score 0, 1 of them out of time" in result.detail
    assert result.evidence["out of time"] == 1


def test_one_equal_solution_that_fails_fails_the_gate() -> None:
    made = [variant(1), variant(2)]
    assert variants.judge_equivalents(made, [score(1.0), score(1.0)]).passed
    result = variants.judge_equivalents(made, [score(1.0), score(0.0)])
    assert not result.passed
    assert result.evidence["why"] == {"condition inverted (a.py:2)": "because"}


def test_variant_takes_the_place_of_the_solutions_text_and_of_nothing_else() -> None:
    link = ChangedFile("testbed/link", 0o777, link="a.py")
    fixed, other = ChangedFile("testbed/a.py", 0o644, content=b"fixed"), ChangedFile("testbed/b.py", 0o644, content=b"b")
    solution = Change((fixed, other, link), ("testbed/c",))
    changed = variants.change_of(solution, variant(1), "/testbed")
    assert [f.content for f in changed.files] == [b"changed", b"b", None]
    assert changed.deleted == ("testbed/c",)
