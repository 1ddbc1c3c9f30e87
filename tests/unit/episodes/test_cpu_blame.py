"""Who is blamed when a test command runs out of time. The figures are what real boxes said, in seconds of ten; the integration tests have
the boxes themselves.
"""

from typing import NamedTuple

import pytest

from envfarm.core.change import Change
from envfarm.core.errors import BoxLost
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.sandbox import Contention, ExecRequest, ExecResult
from envfarm.episodes import cpu_blame
from envfarm.episodes.grader import SandboxGrader
from envfarm.testing import small_task
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider

ENVIRONMENT = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed")
ELAPSED_S = 10.0


class Figures(NamedTuple):
    """Of one command that ran out of its ten seconds."""

    waited_s: float
    box_cpu_s: float
    idle_s: float = 0.0
    cpus: float = 1.0

    @property
    def result(self) -> ExecResult:
        seen = Contention(elapsed_s=ELAPSED_S, waited_s=self.waited_s, box_cpu_s=self.box_cpu_s, idle_s=self.idle_s)
        return ExecResult(exit_code=None, signal=9, timed_out=True, duration_s=ELAPSED_S, contention=seen)


THE_MACHINES = {
    "one thread beside many of others": Figures(9.2, 0.8),
    "a machine that was busy only while it starved the box": Figures(8.2, 0.6, idle_s=2.0),
    "many processes of a box that got nothing": Figures(9.9, 1.0),
    "half a CPU was granted, and a twentieth given": Figures(9.5, 0.5, cpus=0.5),
    "eight CPUs were granted, and a tenth of one given": Figures(9.9, 1.0, cpus=8.0),
}
ITS_OWN = {
    "64 processes that want every CPU": Figures(9.8, 10.0),
    "they, on a machine that gives the box half": Figures(9.8, 5.0),
    "it sleeps": Figures(0.0, 0.0, idle_s=10.0),
    "it sleeps while others keep the machine busy": Figures(0.1, 0.0),
    "it got an eighth of its CPU": Figures(8.7, 1.3),
    "64 processes that share a sixth of a CPU": Figures(9.9, 1.7),
    "its quota is a quarter of a CPU, and held it back": Figures(7.5, 2.5, cpus=0.25),
    "its quota is a tenth of a CPU, used by one that wakes now and then": Figures(9.0, 1.0, cpus=0.1),
    "many that wake at once for a moment": Figures(2.0, 2.1),
    "many on one CPU of the eight that it was granted, beside others' work there": Figures(9.9, 3.0, cpus=8.0),
    "it says to wait, on a machine that stands idle": Figures(9.9, 0.0, idle_s=9.5),
}


@pytest.mark.parametrize("case", THE_MACHINES)
def test_the_machine_is_blamed_where(case: str) -> None:
    figures = THE_MACHINES[case]
    with pytest.raises(
        BoxLost, match=rf"the machine starved a command .*its box of {figures.cpus:g} CPUs used {figures.box_cpu_s} s of CPU"
    ):
        cpu_blame.blame(figures.result, cpus=figures.cpus)


@pytest.mark.parametrize("case", ITS_OWN)
def test_the_command_is_blamed_where(case: str) -> None:
    figures = ITS_OWN[case]
    assert f"waited {figures.waited_s} s for a CPU" in cpu_blame.blame(figures.result, cpus=figures.cpus)


def test_nothing_is_said_of_a_command_that_ended_by_itself_or_of_a_box_that_cannot_tell() -> None:
    starved = THE_MACHINES["one thread beside many of others"].result
    assert cpu_blame.blame(starved.model_copy(update={"timed_out": False}), cpus=1.0) == ""
    assert cpu_blame.blame(starved.model_copy(update={"contention": None}), cpus=1.0) == ""


def test_a_box_that_used_a_sixth_of_a_cpu_bought_nothing_however_many_processes_wait() -> None:
    for cpus in (0.1, 0.5, 1.0, 4.0, 64.0):
        assert cpu_blame.blame(Figures(ELAPSED_S, ELAPSED_S / 6 + 0.01, cpus=cpus).result, cpus=cpus)


async def graded(result: ExecResult) -> Outcome:
    async def answer(_: ScriptedBox, request: ExecRequest) -> ExecResult:
        return result if "pytest" in request.argv else ExecResult(exit_code=0)

    return await SandboxGrader(ScriptedProvider(answer)).grade(small_task.make(), Change(), environment=ENVIRONMENT)


async def test_a_starved_grading_is_tried_again_and_says_why() -> None:
    outcome = await graded(THE_MACHINES["one thread beside many of others"].result)
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("sandbox", True)
    assert "waited 9.2 s" in outcome.detail


async def test_code_that_ran_out_of_time_by_itself_scores_0_and_is_told_where_the_time_went() -> None:
    outcome = await graded(ITS_OWN["64 processes that want every CPU"].result)
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert "used 10.0 s of CPU" in outcome.why


async def test_a_box_that_cannot_tell_scores_0_as_ever() -> None:
    outcome = await graded(ExecResult(exit_code=None, signal=9, timed_out=True, duration_s=60.0))
    assert isinstance(outcome, Scored)
    assert "killed after 60 s)" in outcome.why


async def test_a_starved_run_of_the_suite_is_no_verdict_on_its_task() -> None:
    async def answer(_: ScriptedBox, request: ExecRequest) -> ExecResult:
        return THE_MACHINES["one thread beside many of others"].result if "pytest" in request.argv else ExecResult(exit_code=0)

    with pytest.raises(BoxLost, match="starved"):
        await SandboxGrader(ScriptedProvider(answer)).run_plan(small_task.make(), Change(), environment=ENVIRONMENT)
