"""Who is blamed when a test command is killed. The counters' real behaviour is in the integration tests."""

from collections.abc import Callable

import pytest

from envfarm.core.change import Change
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills, SandboxSpec
from envfarm.episodes.grader import SandboxGrader
from envfarm.testing import small_task
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider, succeed

ENVIRONMENT = Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed")
LIMIT = 1 << 30
CALM = MemoryKills(killed=3, own_limit=5, shared=False, limit_bytes=LIMIT)
KILLED = ExecResult(exit_code=None, signal=9)


class WitnessedBox(ScriptedBox):
    """A box in which the test command ends as it is told to, while counters outside of it rise."""

    seen = CALM
    then = CALM
    result = KILLED

    def memory_kills(self) -> MemoryKills:
        """The counters now."""
        return self.seen

    async def exec(self, request: ExecRequest) -> ExecResult:
        """The test command ends as it is told to."""
        if "pytest" in request.argv:
            self.seen = self.then
            return self.result
        return await super().exec(request)


async def graded(result: ExecResult, then: MemoryKills, *, before: MemoryKills = CALM) -> Outcome:
    class Provider(ScriptedProvider):
        async def create(self, spec: SandboxSpec) -> ScriptedBox:
            box = WitnessedBox(spec, succeed)
            box.seen, box.then, box.result = before, then, result
            return box

    return await SandboxGrader(Provider()).grade(small_task.make(), Change(), environment=ENVIRONMENT)


def more(**rises: int) -> MemoryKills:
    return CALM.model_copy(update={name: getattr(CALM, name) + rise for name, rise in rises.items()})


@pytest.mark.parametrize("result", [KILLED, ExecResult(exit_code=137)], ids=["by a signal", "below a shell"])
async def test_a_box_that_kept_to_its_limit_is_tried_again(result: ExecResult) -> None:
    outcome = await graded(result, more(killed=1))
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("sandbox", True)
    assert "1 such kills in its group" in outcome.detail
    assert "1024 MiB" in outcome.detail


@pytest.mark.parametrize("sign", [{"own_limit": 1}, {"filled": 1}], ids=str)
async def test_a_box_at_its_own_limit_scores_0_and_is_told_why(sign: dict[str, int]) -> None:
    outcome = await graded(KILLED, more(killed=1, **sign))
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0
    assert any("limit of memory" in f.detail for f in outcome.integrity.findings if not f.ok)


CHEATS: dict[str, Callable[[], tuple[ExecResult, MemoryKills]]] = {
    "kills itself": lambda: (KILLED, CALM),
    "kills itself after it ran into its limit": lambda: (KILLED, more(own_limit=1)),
    "has a child killed and ends by itself": lambda: (ExecResult(exit_code=1), more(killed=1)),
    "ends by another signal": lambda: (ExecResult(exit_code=None, signal=11), more(killed=1)),
    "runs out of time": lambda: (ExecResult(exit_code=None, signal=9, timed_out=True), more(killed=1)),
    "is ended by boxd": lambda: (ExecResult(exit_code=None, signal=9, limit_hit="pids"), more(killed=1)),
}


@pytest.mark.parametrize("cheat", CHEATS)
async def test_code_buys_no_retry_when_it(cheat: str) -> None:
    outcome = await graded(*CHEATS[cheat]())
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0.0


@pytest.mark.parametrize(("held", "fault"), [(LIMIT + 1, Scored), (LIMIT - 1, Invalid)], ids=["more than it may", "what it may"])
async def test_where_the_counters_are_the_machines_what_the_command_held_decides(held: int, fault: type) -> None:
    before = MemoryKills(killed=3, limit_bytes=LIMIT)
    outcome = await graded(KILLED.model_copy(update={"max_rss_bytes": held}), before.model_copy(update={"killed": 4}), before=before)
    assert isinstance(outcome, fault)
