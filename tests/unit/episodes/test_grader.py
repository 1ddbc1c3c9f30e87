"""What becomes of failures during a grading. Real gradings are in the hacking tests."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import ClassVar

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError, ImageError, SandboxError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.plan import Canary
from envfarm.core.sandbox import ExecRequest, ExecResult, Holder, Network
from envfarm.core.task import Task
from envfarm.episodes.grader import SandboxGrader, Variation
from envfarm.grading.filtering import DEPTH_MAX, PATHS_MAX
from envfarm.grading.reports import junit
from envfarm.testing import small_task
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider, Verb
from tests.unit.grading.counting import calls

ENVIRONMENT = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed", env={"LD_LIBRARY_PATH": "/opt/lib"})
FIX = Change((ChangedFile("testbed/shelf/labels.py", 0o644, content=b"fixed"),))
PASSING = "<testsuites>{}</testsuites>"


def task() -> Task:
    return small_task.make()


def report() -> bytes:
    cases = []
    for test in task().plan.fail_to_pass + task().plan.pass_to_pass:
        head, bracket, parameters = test.partition("[")
        file, *classes, name = head.split("::")
        dotted = ".".join([file.removesuffix(".py").replace("/", "."), *classes])
        cases.append(f'<testcase classname="{dotted}" name="{name}{bracket}{parameters}" file="{file}"/>')
    return PASSING.format("".join(cases)).encode()


def is_test(request: ExecRequest) -> bool:
    return "pytest" in request.argv


async def right(box: ScriptedBox, request: ExecRequest) -> ExecResult:
    """A box in which every test passes."""
    if is_test(request):
        path = next(a.partition("=")[2] for a in request.argv if a.startswith("--junitxml="))
        box.files[path] = report()
    return ExecResult(exit_code=0)


HOLDER = Holder(run_id=RunId("r"), episode_id=EpisodeId("e"), deadline=datetime(2030, 1, 1, tzinfo=UTC), epoch=3)
Answer = Callable[[ScriptedBox, ExecRequest], ExecResult | None]


async def grade(provider: ScriptedProvider, change: Change = FIX) -> Outcome:
    outcome = await SandboxGrader(provider).grade(task(), change, environment=ENVIRONMENT, holder=HOLDER)
    assert provider.open_boxes == [], "every box is closed"
    return outcome


def instead(special: Answer) -> ScriptedProvider:
    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        found = special(box, request)
        return found if found is not None else await right(box, request)

    return ScriptedProvider(answer=answer)


async def test_every_box_to_grade_in_says_whose_it_is_and_until_when() -> None:
    provider = ScriptedProvider(answer=right)
    await grade(provider)
    assert provider.boxes
    for spec in (box.spec for box in provider.boxes):
        assert Holder(run_id=spec.run_id, episode_id=spec.episode_id, deadline=spec.deadline, epoch=spec.epoch) == HOLDER


async def test_right_code_scores_1_in_a_closed_box() -> None:
    provider = ScriptedProvider(answer=right)
    outcome = await grade(provider)
    assert isinstance(outcome, Scored)
    assert outcome.reward == 1.0, outcome.why
    box = provider.boxes[0]
    assert box.spec.network is Network.CLOSED
    assert box.files["/testbed/shelf/labels.py"] == b"fixed"
    assert box.files["/testbed/tests/test_labels.py"] == small_task.NEW_TESTS.encode()
    command = next(r for r in box.requests if is_test(r))
    assert command.user == "agent"
    assert command.env["PYTEST_ADDOPTS"] == ""
    assert "LD_LIBRARY_PATH" not in command.env, "the environment's own stays"
    assert box.calls.index("quiesce") < box.calls.index("get"), "nothing runs any more when the report is taken"


@pytest.mark.parametrize(
    ("error", "cause"), [(SandboxError("no room"), "sandbox"), (ImageError("no layer"), "image"), (OSError("disk"), "grader")]
)
async def test_a_box_that_cannot_be_had_is_the_farms_fault(error: Exception, cause: str) -> None:
    outcome = await grade(ScriptedProvider(answer=right, create_failures=[error]))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == (cause, True)


class Watched(Change):
    """A change that notes in which threads it is filtered."""

    threads: ClassVar[list[threading.Thread]] = []

    @property
    def paths(self) -> tuple[str, ...]:
        self.threads.append(threading.current_thread())
        return super().paths


async def test_a_change_is_filtered_once_and_holds_up_nobody() -> None:
    provider = ScriptedProvider(answer=right)
    assert isinstance(await grade(provider, Watched(FIX.files)), Scored)
    assert len(Watched.threads) == 1
    assert threading.current_thread() not in Watched.threads


async def test_each_report_is_read_once_and_holds_up_nobody() -> None:
    provider = ScriptedProvider(answer=right)
    with calls(junit.read.__code__) as threads:
        outcome = await grade(provider)
    assert isinstance(outcome, Scored)
    assert len(threads) == sum(box.calls.count("get") for box in provider.boxes) > 0
    assert threading.current_thread() not in threads


@pytest.mark.parametrize("files", [[f"testbed/{n}" for n in range(PATHS_MAX + 1)], ["testbed/" + "a/" * DEPTH_MAX]], ids=["many", "deep"])
async def test_a_change_of_too_many_or_too_deep_paths_scores_0_and_makes_no_box(files: list[str]) -> None:
    provider = ScriptedProvider(answer=right)
    outcome = await grade(provider, Change(tuple(ChangedFile(path, 0o644, content=b"") for path in files)))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "than the" in outcome.why
    assert provider.boxes == []


def raising(error: EnvfarmError, when: Callable[[ExecRequest], bool]) -> ScriptedProvider:
    def special(_: ScriptedBox, request: ExecRequest) -> None:
        if when(request):
            raise error

    return instead(special)


async def test_a_box_that_is_lost_is_the_farms_fault() -> None:
    outcome = await grade(raising(BoxLost("the node is gone"), is_test))
    assert isinstance(outcome, Invalid)
    assert outcome.retryable


async def test_a_box_that_breaks_while_tests_run_is_not() -> None:
    outcome = await grade(raising(BoxBroken("no answer"), is_test))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "broke its box" in outcome.why


async def test_a_box_that_breaks_before_is_the_farms_fault() -> None:
    def silence(box: ScriptedBox) -> None:
        for verb in ("restore", "resume"):
            box.fail(verb, BoxBroken("no answer"))

    outcome = await grade(ScriptedProvider(answer=right, prepare=silence))
    assert isinstance(outcome, Invalid)
    assert outcome.cause == "sandbox"


async def test_a_first_command_that_cannot_be_asked_for_is_the_farms_fault() -> None:
    outcome = await grade(raising(SandboxError("bad_cores"), is_test))
    assert isinstance(outcome, Invalid)
    assert outcome.cause == "sandbox"


@pytest.mark.parametrize("verb", ["quiesce", "get", "resume"])
@pytest.mark.parametrize("error", [SandboxError("os_error: permission denied"), BoxBroken("no answer")])
async def test_whatever_a_box_refuses_after_a_command_scores_0(verb: Verb, error: EnvfarmError) -> None:
    def special(box: ScriptedBox, request: ExecRequest) -> None:
        if is_test(request):
            box.fail(verb, error)

    outcome = await grade(instead(special))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert str(error) in outcome.why


async def test_a_box_that_is_lost_after_a_command_is_the_farms_fault() -> None:
    outcome = await grade(instead(lambda box, request: box.fail("quiesce", BoxLost("gone")) if is_test(request) else None))
    assert isinstance(outcome, Invalid)
    assert outcome.retryable


@pytest.mark.parametrize("error", [SandboxError("name too long"), BoxBroken("no_space")])
async def test_a_change_that_a_sound_box_refuses_scores_0(error: EnvfarmError) -> None:
    outcome = await grade(ScriptedProvider(answer=right, prepare=lambda box: box.fail("restore", error)))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert str(error) in outcome.why


async def test_a_timeout_scores_0() -> None:
    outcome = await grade(instead(lambda _, r: ExecResult(exit_code=None, timed_out=True, duration_s=60.0) if is_test(r) else None))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "in time" in outcome.why


async def test_a_limit_that_was_hit_scores_0() -> None:
    outcome = await grade(instead(lambda _, r: ExecResult(exit_code=None, limit_hit="memory") if is_test(r) else None))
    assert isinstance(outcome, Scored)
    assert "limit of memory" in outcome.why


async def test_grading_starts_nothing_but_the_tests() -> None:
    provider = ScriptedProvider(answer=right)
    await grade(provider)
    assert all(is_test(request) for box in provider.boxes for request in box.requests)


async def test_what_will_not_die_scores_0() -> None:
    outcome = await grade(ScriptedProvider(answer=right, prepare=lambda box: box.survivors.append("7 daemon")))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "7 daemon" in outcome.why


async def test_what_will_not_die_before_the_tests_in_the_agents_own_box_scores_0() -> None:
    """Even if it is gone by the time when the first report is taken."""

    async def let_die(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        box.survivors.clear()
        return await right(box, request)

    provider = ScriptedProvider(answer=let_die, prepare=lambda box: box.survivors.append("7 daemon"))
    grader = SandboxGrader(provider)
    async with grader._fresh_box(task(), ENVIRONMENT) as box:
        outcome = await grader.grade_in_place(task(), box, FIX, environment=ENVIRONMENT)
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "7 daemon" in outcome.why
    assert outcome.report.statuses, "the tests were run, and passed"


async def test_a_damaged_plan_is_no_zero() -> None:
    damaged = task().model_copy(update={"tests": {}})
    outcome = await SandboxGrader(ScriptedProvider(answer=right)).grade(damaged, FIX, environment=ENVIRONMENT)
    assert isinstance(outcome, Invalid)
    assert "tests/test_labels.py" in outcome.detail


async def test_raw_statuses_with_a_variation() -> None:
    provider = ScriptedProvider(answer=right)
    run = await SandboxGrader(provider).run_plan(
        task(), FIX, environment=ENVIRONMENT, variation=Variation(env={"TZ": "Asia/Tokyo"}, order_seed=3, cores=(1,))
    )
    assert set(run.statuses.values()) == {"passed"}
    command = next(r for r in provider.boxes[0].requests if is_test(r))
    assert (command.env["TZ"], command.cores) == ("Asia/Tokyo", (1,))
    assert "{canaries}" not in command.argv


async def test_without_tests_missing_files_are_not_named() -> None:
    def special(_: ScriptedBox, request: ExecRequest) -> ExecResult | None:
        return ExecResult(exit_code=0, stdout=b"tests/test_labels.py\n") if request.argv[0] == "/bin/sh" else None

    provider = instead(special)
    await SandboxGrader(provider).run_plan(task(), Change(), environment=ENVIRONMENT, with_tests=False)
    command = next(r for r in provider.boxes[0].requests if is_test(r))
    assert "tests/test_labels.py" not in command.argv
    assert "/testbed/tests/test_labels.py" not in provider.boxes[0].files


def copies(request: ExecRequest) -> list[str]:
    return [argument for argument in request.argv if argument.startswith("tests/") and argument != "tests/test_labels.py"]


def with_copies(count: int) -> Task:
    """The task with as many canaries, each in a file of its own."""
    names = [f"copy_{n}.py" for n in range(count)]
    canaries = tuple(Canary("renamed", name, f"tests/test_{{token}}_{name}", f"tests/test_{{token}}_{name}::test") for name in names)
    plain = task()
    tests = {**plain.tests, **{f"canaries/{name}": b"def test(): pass" for name in names}}
    return plain.model_copy(update={"plan": replace(plain.plan, canaries=canaries), "tests": tests})


def passing_beside(needs: dict[str, str]) -> ScriptedProvider:
    """Boxes in which some files fail unless another one runs in the same command. Files are known by the ends of their names."""

    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        asked = copies(request)
        failing = {f for f in asked for end, other in needs.items() if f.endswith(end) and not any(g.endswith(other) for g in asked)}
        path = next(a.partition("=")[2] for a in request.argv if a.startswith("--junitxml="))
        cases = ""
        for file in asked:
            classname = file.removesuffix(".py").replace("/", ".")
            cases += f'<testcase classname="{classname}" name="test" file="{file}">{"<failure/>" * (file in failing)}</testcase>'
        box.files[path] = PASSING.format(cases).encode()
        return ExecResult(exit_code=1 if failing else 0)

    return ScriptedProvider(answer=answer)


async def test_copies_that_pass_beside_some_modules_only_are_found_as_gradings_draw_them() -> None:
    plain = with_copies(7)
    whole = tuple(replace(canary, unaltered=True) for canary in plain.plan.canaries)
    asked = plain.model_copy(update={"plan": replace(plain.plan, canaries=whole)})
    provider = passing_beside({"copy_4.py": "copy_5.py", "copy_6.py": "copy_3.py"})
    assert all((await SandboxGrader(provider).check_canaries(asked, FIX, environment=ENVIRONMENT)).values()), "all stand side by side"
    assert await SandboxGrader(provider).wrong_in_blind_rounds(asked, FIX, environment=ENVIRONMENT) == {whole[4]}


async def test_copies_that_fail_without_a_module_are_found_in_every_template() -> None:
    plain = with_copies(6)
    *altered, whole = plain.plan.canaries
    canaries = tuple(replace(c, destination="tests/test_{token}_a.py", id="tests/test_{token}_a.py::test") for c in altered)
    asked = plain.model_copy(update={"plan": replace(plain.plan, canaries=(*canaries, replace(whole, unaltered=True)))})
    provider = passing_beside({"_a.py": "copy_5.py"})
    assert await SandboxGrader(provider).wrong_in_blind_rounds(asked, FIX, environment=ENVIRONMENT) == {*canaries}
    assert len(provider.boxes) < 2 * len(canaries)


def roomy_for(count: int) -> ScriptedProvider:
    """Boxes in which no more test files than that run at once: more of them hit the limit of memory."""

    async def answer(box: ScriptedBox, request: ExecRequest) -> ExecResult:
        asked = copies(request)
        if len(asked) > count:
            return ExecResult(exit_code=None, limit_hit="memory")
        path = next(a.partition("=")[2] for a in request.argv if a.startswith("--junitxml="))
        said = (f'<testcase classname="{f.removesuffix(".py").replace("/", ".")}" name="test" file="{f}"/>' for f in asked)
        box.files[path] = PASSING.format("".join(said)).encode()
        return ExecResult(exit_code=0)

    return ScriptedProvider(answer=answer)


@pytest.mark.parametrize(("room", "boxes"), [(8, 1), (4, 3), (2, 7)])
async def test_copies_that_are_too_many_for_one_box_are_tried_in_several(room: int, boxes: int) -> None:
    provider, asked = roomy_for(room), with_copies(8)
    said = await SandboxGrader(provider).try_copies(asked, FIX, environment=ENVIRONMENT)
    assert said == {f"{canary.destination}::test": "passed" for canary in asked.plan.canaries}
    assert len(provider.boxes) == boxes
    assert all((await SandboxGrader(roomy_for(room)).check_canaries(asked, FIX, environment=ENVIRONMENT)).values())


async def test_copies_that_no_box_can_run_are_given_up_after_some_halving() -> None:
    provider, asked = roomy_for(0), with_copies(32)
    answered = await SandboxGrader(provider).check_canaries(asked, FIX, environment=ENVIRONMENT)
    assert set(answered.values()) == {False}
    assert len(provider.boxes) == 1 + 2 + 4 + 8


async def test_in_the_agents_own_box_a_broken_one_is_the_agents() -> None:
    provider = ScriptedProvider(answer=right, prepare=lambda box: box.fail("quiesce", BoxBroken("no answer")))
    grader = SandboxGrader(provider)
    async with grader._fresh_box(task(), ENVIRONMENT) as box:
        outcome = await grader.grade_in_place(task(), box, FIX, environment=ENVIRONMENT)
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
