import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envfarm.controller.attempts import Role
from envfarm.controller.local_pool import LocalPool, PoolEvent, PoolOptions, PoolParts, RunReport
from envfarm.controller.owners import Owners
from envfarm.core.action import Action, Bash, Decision, Finish
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.errors import PolicyError, PolicyRefused, SandboxError, StoreError, TaskError
from envfarm.core.ids import RunId
from envfarm.core.outcome import Invalid
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.trajectory import End, Header, Step
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.policies.scripted import Scripted
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.sql import open_sqlite
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import CannedGrader, HeldClock, make_environment, make_scored, make_spec, make_task
from envfarm.testing.faults import FailAt
from envfarm.testing.scripted_box import ScriptedBox, ScriptedProvider

RUN = RunId("run-1")
SPECS = [make_spec(n) for n in range(6)]
IDS = [s.episode_id for s in SPECS]
SCRIPT: list[Action] = [Bash(command="one"), Bash(command="two"), Finish()]


@dataclass
class Farm:
    """A farm in a temporary directory; `again` is the same one in a later process."""

    home: Path
    episodes: SqlEpisodes
    provider: ScriptedProvider = field(default_factory=ScriptedProvider)
    grader: CannedGrader = field(default_factory=CannedGrader)
    events: list[PoolEvent] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """What `cast` raises first."""
    collect: Callable[[], Awaitable[int]] | None = None

    @property
    def trajectories(self) -> FileTrajectories:
        return FileTrajectories(self.home / "trajectories")

    def pool(self, *, boxes: int = 2, retries: int = 2) -> LocalPool:
        runner = EpisodeRunner(self.provider, self.grader, self.trajectories, HeldClock(), grade_again_s=())
        parts = PoolParts(self.episodes, self.trajectories, runner, Owners(self.home / "owners"), self.cast, self.wait, self.collect)
        return LocalPool(
            parts, PoolOptions(boxes=boxes, retries=retries, first_wait_s=1.0, longest_wait_s=3.0), progress=self.events.append
        )

    async def cast(self, _: EpisodeSpec) -> Role:
        if self.failures:
            raise self.failures.pop(0)
        return Role(make_task(), make_environment(), Scripted(SCRIPT))

    async def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
async def farm(tmp_path: Path) -> AsyncIterator[Farm]:
    episodes = SqlEpisodes(open_sqlite(tmp_path / "farm.db"), HeldClock())
    await episodes.open()
    yield Farm(tmp_path, episodes)
    await episodes.close()


async def test_every_episode_comes_to_one_outcome_and_no_box_is_left(farm: Farm) -> None:
    report = await farm.pool().run(RUN, SPECS)
    assert report == RunReport(RUN, {"done": 6}, interrupted=False)
    assert report.complete
    assert await farm.episodes.outcomes(IDS) == dict.fromkeys(IDS, make_scored(1.0))
    assert farm.provider.open_boxes == []
    assert sorted(e.spec.member for e in farm.events if e.kind == "ended") == list(range(6))


async def test_no_more_boxes_than_allowed_are_open_at_once(farm: Farm) -> None:
    most = 0
    all_busy = asyncio.Barrier(3)

    async def watch(_: ScriptedBox, request: ExecRequest) -> ExecResult:
        nonlocal most
        if request.shell == "one":
            async with all_busy:
                most = max(most, len(farm.provider.open_boxes))
        return ExecResult(exit_code=0)

    farm.provider.answer = watch
    await farm.pool(boxes=3).run(RUN, SPECS)
    assert most == 3


async def test_a_run_that_is_done_is_not_played_again(farm: Farm) -> None:
    await farm.pool().run(RUN, SPECS)
    made = len(farm.provider.boxes)
    assert (await farm.pool().run(RUN, SPECS)).complete
    assert len(farm.provider.boxes) == made


async def test_a_retryable_fault_is_tried_again_with_growing_waits(farm: Farm) -> None:
    farm.failures = [PolicyError("down"), PolicyError("down")]
    report = await farm.pool(boxes=1).run(RUN, SPECS[:1])
    assert report.states == {"done": 1}
    assert farm.waits == [1.0, 2.0]
    assert [e.kind for e in farm.events] == ["started", "retrying", "retrying", "ended"]
    assert farm.events[-1].attempts == 2


async def test_too_many_faults_poison_the_episode_and_never_score_it(farm: Farm) -> None:
    farm.provider.create_failures = [SandboxError("no room")] * 3
    report = await farm.pool(boxes=1).run(RUN, SPECS[:2])
    assert report.states == {"done": 1, "poisoned": 1}
    assert (await farm.episodes.outcomes(IDS))[IDS[0]] == Invalid("sandbox", retryable=True, detail="no room")


async def test_a_fault_that_no_retry_mends_is_not_retried(farm: Farm) -> None:
    farm.failures = [TaskError("no such task"), KeyError("bug")]
    report = await farm.pool(boxes=1).run(RUN, SPECS[:2])
    assert report.states == {"poisoned": 2}
    assert farm.waits == []
    rows = await farm.episodes.episodes(RUN)
    assert rows[0].detail == "no such task"
    assert "KeyError" in rows[1].detail


def refusing(farm: Farm, *, besides: Decision | None = None) -> None:
    """Every policy's endpoint refuses; after its first choice where there is one."""

    class Refused(Scripted):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract asks for it
            raise PolicyRefused("status 401: bad key")

    async def cast(spec: EpisodeSpec) -> Role:
        played = Scripted([besides.action]) if besides and spec.policy != SPECS[0].policy else Refused([])
        return Role(make_task(), make_environment(), played)

    farm.cast = cast  # type: ignore[assignment, method-assign]


async def test_a_policy_whose_endpoint_refuses_is_given_up_after_its_first_episodes(farm: Farm) -> None:
    refusing(farm)
    report = await farm.pool(boxes=1).run(RUN, SPECS)
    assert report.states == {"poisoned": 3, "pending": 3}
    assert [(given_up.policy, given_up.why) for given_up in report.given_up] == [(SPECS[0].policy, "status 401: bad key")]
    assert (farm.waits, len(farm.provider.boxes)) == ([], 3), "a refusal is not tried again"
    assert (await farm.episodes.outcomes(IDS))[IDS[0]] == Invalid("policy", retryable=False, detail="status 401: bad key")


async def test_other_policies_of_the_run_are_played_on(farm: Farm) -> None:
    refusing(farm, besides=Decision(Finish()))
    others = [spec.model_copy(update={"policy": PolicySpec(name="gold")}) for spec in SPECS[3:]]
    report = await farm.pool(boxes=1).run(RUN, [*SPECS[:3], *others])
    assert report.states == {"poisoned": 3, "done": 3}


async def test_attempts_count_over_processes(farm: Farm) -> None:
    await farm.episodes.start_run(RUN)
    await farm.episodes.add_specs(SPECS[:1])
    claim = await farm.episodes.claim(RUN, "dead-process")
    assert claim is not None
    await farm.episodes.note_attempt(IDS[0], claim.epoch, detail="down", attempts=2)
    farm.failures = [PolicyError("down")]
    report = await farm.pool(boxes=1).run(RUN)
    assert report.states == {"poisoned": 1}


async def test_a_retry_goes_on_from_the_recorded_steps(farm: Farm) -> None:
    farm.grader.outcomes = [Invalid("grader", retryable=True, detail="no box"), make_scored(1.0)]
    await farm.pool(boxes=1).run(RUN, SPECS[:1])
    told = await farm.trajectories.read(IDS[0])
    assert told.header.attempt == 1
    assert "replayed and agreed" in told.header.started_because
    assert len(told.steps) == 3
    assert await farm.episodes.outcomes(IDS) == {IDS[0]: make_scored(1.0)}


async def test_stopping_closes_boxes_and_the_next_process_goes_on(farm: Farm) -> None:
    running = asyncio.Barrier(3)

    async def hang(_: ScriptedBox, request: ExecRequest) -> ExecResult:
        if request.shell == "two":
            await running.wait()
            await asyncio.Event().wait()
        return ExecResult(exit_code=0)

    farm.provider.answer = hang
    pool = farm.pool()
    task = asyncio.create_task(pool.run(RUN, SPECS))
    await running.wait()
    pool.stop()
    report = await task
    assert report.interrupted
    assert report.states == {"pending": 6}
    assert farm.provider.open_boxes == []

    async def work(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        return ExecResult(exit_code=0)

    farm.provider.answer = work
    assert (await farm.pool().run(RUN)).states == {"done": 6}
    resumed = await farm.trajectories.read(IDS[0])
    assert "interrupted; 1 recorded step replayed and agreed" in resumed.header.started_because


async def test_sigint_stops_in_good_order(farm: Farm) -> None:
    async def interrupt(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.Event().wait()
        raise AssertionError

    farm.provider.answer = interrupt
    report = await farm.pool(boxes=1).run(RUN, SPECS, signals=True)
    assert report.interrupted
    assert farm.provider.open_boxes == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_a_dead_owners_episodes_are_taken_up_but_not_a_live_ones(farm: Farm) -> None:
    await farm.episodes.start_run(RUN)
    await farm.episodes.add_specs(SPECS)
    await farm.episodes.claim(RUN, "dead-process")
    with Owners(farm.home / "owners").hold() as sibling:
        theirs = await farm.episodes.claim(RUN, sibling)
        assert theirs is not None
        report = await farm.pool().run(RUN)
    assert report.states == {"done": 5, "running": 1}
    assert not report.complete
    assert theirs.spec.episode_id not in await farm.episodes.outcomes(IDS)


async def test_two_pools_share_a_run_without_playing_anything_twice(farm: Farm) -> None:
    reports = await asyncio.gather(farm.pool().run(RUN, SPECS), farm.pool().run(RUN, SPECS))
    assert len(farm.provider.boxes) == 6
    assert (await farm.episodes.counts(RUN)) == {"done": 6}
    assert any(r.complete for r in reports)


async def test_an_outcome_written_but_not_committed_is_committed_without_playing(farm: Farm) -> None:
    runner = EpisodeRunner(farm.provider, farm.grader, farm.trajectories, HeldClock())
    role = await farm.cast(SPECS[0])
    await runner.run(Assignment(SPECS[0], role.task, role.environment, role.policy))
    await farm.episodes.start_run(RUN)
    await farm.episodes.add_specs(SPECS[:1])
    await farm.episodes.claim(RUN, "dead-process")
    assert (await farm.pool().run(RUN)).states == {"done": 1}
    assert len(farm.provider.boxes) == 1


async def test_what_the_dead_left_is_removed_before_anything_is_played(farm: Farm) -> None:
    made: list[int] = []

    async def collect() -> int:
        made.append(len(farm.provider.boxes))
        return 0

    farm.collect = collect
    await farm.pool().run(RUN, SPECS[:1])
    assert made == [0]
    assert len(farm.provider.boxes) == 1


async def test_an_episode_that_takes_the_farm_down_is_poisoned_after_as_many_deaths_as_failures(farm: Farm) -> None:
    await farm.episodes.start_run(RUN)
    await farm.episodes.add_specs(SPECS[:1])
    for _ in range(3):
        assert await farm.episodes.claim(RUN, "dead-process")
        await farm.episodes.take_over(RUN, "dead-process")
    assert (await farm.pool(retries=2).run(RUN)).states == {"poisoned": 1}
    outcome = (await farm.episodes.outcomes(IDS))[IDS[0]]
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, outcome.retryable) == ("farm", True)
    assert "the farm's process died" in outcome.detail
    assert farm.provider.boxes == []
    await farm.episodes.forget_invalid(IDS)
    assert (await farm.pool(retries=2).run(RUN)).states == {"done": 1}


async def test_an_episode_without_a_verdict_is_played_again_when_it_is_forgotten(farm: Farm) -> None:
    farm.failures = [TaskError("damaged")]
    assert (await farm.pool().run(RUN, SPECS[:1])).states == {"poisoned": 1}
    await farm.trajectories.append(IDS[0], Header(episode=SPECS[0], environment_digest="d", instruction="i", box="b", attempt=0))
    await farm.trajectories.append(IDS[0], End(ended="failed", outcome=Invalid("task", retryable=False, detail="damaged"), seconds=1.0))
    await farm.episodes.forget_invalid(IDS)
    assert (await farm.pool().run(RUN, SPECS[:1])).states == {"done": 1}


async def test_a_store_that_fails_ends_the_run_with_its_error_and_closes_boxes(farm: Farm, tmp_path: Path) -> None:
    faults = FailAt("outcome commit", StoreError("database is gone"))
    farm.episodes = SqlEpisodes(open_sqlite(tmp_path / "farm.db"), HeldClock(), faults=faults)
    with pytest.raises(StoreError, match="database is gone"):
        await farm.pool().run(RUN, SPECS)
    assert farm.provider.open_boxes == []
    await farm.episodes.close()


async def test_a_fenced_attempt_tells_nothing(farm: Farm) -> None:
    class Usurped(Scripted):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract asks for it
            owners = await farm.episodes.owners(RUN)
            await farm.episodes.take_over(RUN, owners[0])
            assert await farm.episodes.claim(RUN, "usurper")
            return Decision(Finish())

    async def cast(_: EpisodeSpec) -> Role:
        return Role(make_task(), make_environment(), Usurped([]))

    farm.cast = cast  # type: ignore[method-assign]
    report = await farm.pool(boxes=1).run(RUN, SPECS[:1])
    assert report.states == {"running": 1}
    assert [e.kind for e in farm.events] == ["started"]
    assert await farm.episodes.outcomes(IDS) == {}


@pytest.mark.parametrize("steps", [1, 3, 5, 7, 9, 12, 16, 24])
async def test_a_stop_at_any_moment_leaves_no_episode_running(farm: Farm, steps: int) -> None:
    pool = farm.pool()
    task = asyncio.create_task(pool.run(RUN, SPECS))
    for _ in range(steps):
        await farm.episodes.counts(RUN)  # as long as one turn of the pool's own database work
    pool.stop()
    report = await task
    assert "running" not in report.states
    assert farm.provider.open_boxes == []
