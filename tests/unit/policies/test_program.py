"""An agent that is a program: when its command is ended, and as what."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from envfarm.core.ids import EpisodeId, ExecId
from envfarm.core.program import Allowance, Part
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.policies.program import CommandProgram, ProgramOptions
from envfarm.testing.factories import make_environment
from envfarm.testing.scripted_box import ScriptedBox

EPISODE = EpisodeId("e")
SPEC = SandboxSpec(environment=make_environment())


class Door:
    """Leads nowhere."""

    port = 1

    async def close(self) -> None:
        """Nothing was opened."""


@dataclass
class BoxWithDoors(ScriptedBox):
    """Its command runs until it is interrupted."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cut_off: Callable[[float, str], None] = lambda _seconds, _why: None

    async def exec(self, request: ExecRequest) -> ExecResult:
        self.requests.append(request)
        await self.ended.wait()
        return ExecResult(exit_code=None, signal=9)

    async def open_door(
        self,
        serve: Callable[[], asyncio.Protocol],  # noqa: ARG002 - the contract's
        *,
        connections: int = 32,  # noqa: ARG002 - the contract's
        cut_off: Callable[[float, str], None] = lambda _seconds, _why: None,
    ) -> Door:
        self.cut_off = cut_off
        return Door()

    async def interrupt(self, command: ExecId) -> None:
        assert command == self.requests[0].exec_id
        self.ended.set()


@dataclass
class Model:
    """Whose outages are as they are set."""

    outage_s: float = 0.0
    token: str = "t"
    over: asyncio.Event = field(default_factory=asyncio.Event)

    def open(self, episode: EpisodeId, allowance: Allowance) -> "Model":
        assert (episode, allowance.calls) == (EPISODE, 5)
        return self

    def serve(self) -> asyncio.Protocol:
        raise AssertionError

    def cut_off(self, seconds: float, why: str) -> None:
        assert why
        self.outage_s += seconds

    async def used_up(self) -> None:
        await self.over.wait()

    async def close(self) -> Sampled:
        return Sampled(episode=EPISODE, outage_s=self.outage_s)


def part(timeout_s: float, longest_outage_s: float) -> Part:
    return Part(
        episode=EPISODE, instruction="", work_dir="/", calls=5, tokens=None, seed=0, timeout_s=timeout_s, longest_outage_s=longest_outage_s
    )


@pytest.mark.parametrize(("outage_s", "at_least_s"), [(0.0, 0.05), (0.2, 0.25), (100.0, 0.45)])
async def test_time_in_which_the_model_was_away_is_given_back_and_no_more_than_may_be(outage_s: float, at_least_s: float) -> None:
    box, loop = BoxWithDoors(SPEC), asyncio.get_running_loop()
    began_s = loop.time()
    result = await CommandProgram(ProgramOptions(command="agent"), Model(outage_s)).play(box, part(0.05, 0.4))
    assert result.timed_out
    assert loop.time() - began_s >= at_least_s
    # The box ends it itself where nobody else does.
    assert box.requests[0].timeout_s == pytest.approx(0.45)


async def test_a_budget_that_is_used_up_ends_it_before_its_time() -> None:
    box, model = BoxWithDoors(SPEC), Model()
    model.over.set()
    program = CommandProgram(ProgramOptions(command="agent"), model)
    assert not (await program.play(box, part(60.0, 60.0))).timed_out
    assert program.sampled == Sampled(episode=EPISODE)


class Unreachable(BoxWithDoors):
    """For the farm; its command runs on."""

    async def exec(self, request: ExecRequest) -> ExecResult:
        self.cut_off(100.0, "no more open files")
        return await super().exec(request)


async def test_a_program_that_the_farm_cannot_reach_has_an_outage_of_its_model() -> None:
    program = CommandProgram(ProgramOptions(command="agent"), Model())
    assert (await program.play(Unreachable(SPEC), part(0.05, 0.4))).timed_out
    assert program.sampled == Sampled(episode=EPISODE, outage_s=100.0)
