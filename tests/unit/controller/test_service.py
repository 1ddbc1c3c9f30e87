"""The service and its host over fakes of boxes: what a trainer sees."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event, select

from envfarm.controller.tenure import FencedTrajectories, Tenure
from envfarm.core.action import Bash, Decision, Finish
from envfarm.core.episode import Budgets, PolicySpec
from envfarm.core.errors import Conflict, NotFound, Overloaded, PolicyError, StoreError, UsageError
from envfarm.core.ids import EpisodeId, RunId, TaskDigest
from envfarm.core.outcome import Censored, Invalid
from envfarm.core.rollout import (
    EpisodeRequest,
    LeaseRequest,
    Quota,
    RewardRequest,
    StepRequest,
    TaskSelector,
)
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.trajectory import Header, Step
from envfarm.policies.scripted import Scripted
from envfarm.scheduling.admission import Amount
from envfarm.stores.episode_schema import LEASES
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing.factories import HeldClock, make_scored, make_spec, make_task
from envfarm.testing.faults import FailAt
from envfarm.testing.scripted_box import ScriptedBox
from envfarm.testing.small_service import SCRIPT, A, B, SmallService, rewards
from tests.unit.controller.trainers_side import TASKS, Gate, asked, collected

pytestmark = pytest.mark.timeout(60)


async def test_a_rollout_comes_back_as_groups(farm: SmallService) -> None:
    async with farm.playing():
        view = await farm.service.submit(A, asked(metadata={"step": "3"}))
        groups = await collected(farm, 3)
        events = [e async for e in farm.service.events(A, view.id)]
    assert {g.result.task for g in groups} == {r.digest for r in await farm.catalogue.rows()}
    assert all(g.result.complete and len(g.result.members) == 2 and g.result.metadata == {"step": "3"} for g in groups)
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    assert [events[0].kind, events[-1].kind] == ["accepted", "done"]
    assert (await farm.service.get(A, view.id)).state == "done"
    assert farm.provider.open_boxes == []
    assert await farm.leases.hosts() == (), "a host that stops in good order leaves no lease"


async def test_nobody_waits_for_groups_of_rollouts_that_have_none_to_come(farm: SmallService) -> None:
    waiting = LeaseRequest(limit=8, wait_s=60.0, lease_s=0.2)
    async with farm.playing():
        view = await farm.service.submit(A, asked())
        mine = waiting.model_copy(update={"rollouts": (view.id,)})
        assert len(await collected(farm, 2)) == 2
        (left,) = await farm.service.lease_results(A, mine)
        (again,) = await farm.service.lease_results(A, mine)  # not acknowledged in time: it was worth waiting for
        assert again.result == left.result.model_copy(update={"redelivered": True})
        await farm.service.acknowledge(A, [again.lease])
        assert await farm.service.lease_results(A, mine) == ()
        for nobodys in (mine, LeaseRequest(rollouts=(RunId("nosuch"),))):
            with pytest.raises(NotFound):
                await farm.service.lease_results(B, nobodys)


async def test_what_somebody_else_let_lapse_is_no_reason_to_look_again_and_again(farm: SmallService) -> None:
    looks = 0

    def count(*about: object) -> None:
        nonlocal looks
        looks += "min(groups.lease_until)" in str(about[2])

    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        (dead,) = await farm.service.lease_results(A, LeaseRequest(wait_s=30.0, lease_s=0.01))
        await farm.versions.pause(A, "paused", paused=True)
        view = await farm.service.submit(A, asked(TASKS[1], policy_name="paused"))
        event.listen(farm.engine, "before_cursor_execute", count)
        while (await farm.results.lease(A, limit=1, lease_s=0.001)) == ():  # the dead one's has lapsed
            pass
        assert await farm.service.lease_results(A, LeaseRequest(wait_s=1.0, rollouts=(view.id,))) == ()
    assert dead.result.rollout != view.id
    assert looks <= 6, "as often as it looks for what other processes did"


async def test_a_rollout_without_a_seed_draws_one_and_can_be_repeated_with_it(farm: SmallService) -> None:
    first = await farm.service.submit(A, asked(TASKS[0]), key="k")
    same = await farm.service.submit(A, asked(TASKS[0]), key="k")
    other = await farm.service.submit(A, asked(TASKS[0]))
    drawn = first.request.seed
    assert drawn is not None
    assert (same.id, other.request.seed != drawn) == (first.id, True)
    again = await farm.service.submit(A, asked(TASKS[0], seed=drawn))
    seeds = []
    for view in (first, again):
        rows = await farm.rollouts.episodes(A, view.id, after=-1, limit=9)
        seeds.append([(row.spec.seed, row.spec.sampling_seed) for _, row in rows])
    assert seeds[0] == seeds[1]
    assert [seed for seed, _ in seeds[0]] == [drawn, drawn + 1]


async def test_a_request_makes_sense_or_is_refused(farm: SmallService) -> None:
    for wrong in (
        asked("made-up/none"),
        asked().model_copy(update={"policy": PolicySpec(name="evil")}),
        asked().model_copy(update={"tasks": TaskSelector(dataset="nowhere@1")}),
        asked().model_copy(update={"tasks": TaskSelector(dataset="nowhere")}),
        asked().model_copy(update={"tasks": TaskSelector(language="cobol")}),
        asked().model_copy(update={"tasks": TaskSelector(names=TASKS, language="python")}),
    ):
        with pytest.raises(UsageError):
            await farm.service.submit(A, wrong)


async def test_a_quarantined_task_is_played_for_nobody_who_names_it(farm: SmallService) -> None:
    await farm.catalogue.quarantine((await farm.catalogue.find(TASKS[0])).digest, "its tests are wrong")
    for ask in (
        farm.service.submit(A, asked()),
        farm.steps.create(A, EpisodeRequest(task=TASKS[0]), key=None, wait_s=0.0),
        farm.steps.reward(A, RewardRequest(task=TASKS[0], patch=""), key=None, wait_s=0.0),
        farm.service.choose(A, TaskSelector(names=(TASKS[0],))),
    ):
        with pytest.raises(UsageError, match="made-up/t0 is quarantined: its tests are wrong"):
            await ask
    assert [row.name for row in await farm.service.choose(A, TaskSelector())] == list(TASKS[1:])


async def test_a_failed_member_is_played_again_and_the_group_is_whole(farm: SmallService) -> None:
    farm.grader.outcomes = [Invalid("grader", retryable=True, detail="no box"), make_scored(0.5)]
    async with farm.playing():
        view = await farm.service.submit(A, asked(TASKS[0], members=3))
        (group,) = await collected(farm, 1)
        kinds = [e.kind async for e in farm.service.events(A, view.id)]
    assert [m.outcome for m in group.result.members] == [make_scored(0.5)] * 3
    assert kinds.count("retrying") == 1
    assert len(farm.played) == 4


async def test_too_many_failures_poison_a_member_and_the_group_says_so(farm: SmallService) -> None:
    class Broken(Scripted):
        async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - the contract's
            raise PolicyError("the engine is down")

    farm.policy = lambda spec: Broken(SCRIPT) if spec.member == 1 else Scripted(SCRIPT)
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        (group,) = await collected(farm, 1)
    assert not group.result.complete
    assert [m.outcome.kind for m in group.result.members] == ["scored", "invalid"]
    assert len(farm.played) == 1 + 1 + farm.retries


async def test_a_new_version_and_an_abort_begin_groups_anew(farm: SmallService) -> None:
    gates = [Gate(), Gate()]
    pending = list(gates)
    farm.policy = lambda _: pending.pop(0) if pending else Scripted(SCRIPT)
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0], version_window=0))
        for gate in gates:
            await gate.reached.wait()
        await farm.versions.move_on(A, "default", 7)
        (group,) = await collected(farm, 1)
    assert group.result.version == 7
    assert {m.episode.rsplit("-", 1)[1] for m in group.result.members} == {"1"}
    assert farm.provider.open_boxes == []


async def test_a_paused_policy_starts_nothing(farm: SmallService) -> None:
    assert (await farm.versions.pause(A, "default", paused=True)).paused
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        await farm.service.submit(B, asked(TASKS[0]))
        await collected(farm, 1, B)
        assert len(farm.played) == 2
        await farm.versions.pause(A, "default", paused=False)
        await collected(farm, 1)


async def test_cancelling_closes_boxes_and_is_safe_to_say_again(farm: SmallService) -> None:
    gate = Gate()
    farm.policy = lambda _: gate
    async with farm.playing():
        view = await farm.service.submit(A, asked())
        await gate.reached.wait()
        assert (await farm.service.cancel(A, view.id)).state == "cancelled"
        assert (await farm.service.cancel(A, view.id)).state == "cancelled"
        with pytest.raises(NotFound):
            await farm.service.cancel(B, view.id)
        assert [e.kind async for e in farm.service.events(A, view.id)][-1] == "cancelled"
        with farm.bells.listen("queue") as heard:
            while farm.host.view.live:
                heard.clear()
                await heard.wait()
    assert farm.provider.open_boxes == []


async def test_no_more_than_fits_is_played_at_once_and_two_tenants_take_turns(farm: SmallService, tmp_path: Path) -> None:
    small = SmallService(tmp_path / "small", capacity=Amount(memory_mib=5000, disk_mib=10_000, cores=8, episodes=9))
    await small.open()
    most = 0

    async def watch(_: ScriptedBox, __: ExecRequest) -> ExecResult:
        nonlocal most
        most = max(most, len(small.provider.open_boxes))
        return ExecResult(exit_code=0)

    small.provider.answer = watch
    flood = await small.service.submit(A, asked(members=10))
    trickle = await small.service.submit(B, asked(TASKS[0], members=4))
    async with small.playing():
        await collected(small, 1, B)
        await collected(small, 3, A)
    played = [e.partition(".")[0] for e in small.played]
    last = len(played) - played[::-1].index(trickle.id)
    assert most == 2, "two boxes of 2048 MiB fit into 5000"
    assert played[:last].count(flood.id) <= 4 + 4
    await small.close()


class FewPlaces:
    """A cluster with room for so many boxes, which grows when it is told to."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.tell: list[Callable[[], None]] = []

    def tell_places(self, listener: Callable[[], None]) -> None:
        self.tell.append(listener)

    def grow(self, places: int) -> None:
        self.places = places
        for tell in self.tell:
            tell()


async def test_as_many_are_played_as_the_cluster_has_places_for_and_more_as_soon_as_it_has(tmp_path: Path) -> None:
    cluster, gate = FewPlaces(1), Gate()
    farm = SmallService(tmp_path, places=cluster, policy=lambda _: gate)
    await farm.open()
    await farm.service.submit(A, asked(TASKS[0], members=4))
    async with farm.playing():
        await gate.reached.wait()
        await asyncio.sleep(0.1)  # long enough for it to do the wrong thing
        assert farm.host.view.live == 1
        cluster.grow(3)
        async with asyncio.timeout(5):  # a beat is as long: it does not wait for one
            while farm.host.view.live < 3:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        gate.open.set()
        await collected(farm, 1)
    await farm.close()


async def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, most_unfinished=6)
    await farm.open()
    await farm.service.submit(A, asked())
    with pytest.raises(Overloaded):
        await farm.service.submit(A, asked(TASKS[0]))
    async with farm.playing():
        await collected(farm, 3)
        await farm.service.submit(A, asked(TASKS[0]))
    await farm.close()


async def test_a_tenants_live_quota_holds_it_and_nobody_else(farm: SmallService) -> None:
    await farm.access.add_tenant(A, Quota(live_episodes=0))
    async with farm.playing():
        await farm.service.submit(A, asked())
        await farm.service.submit(B, asked())
        await collected(farm, 3, B)
        assert len(farm.played) == 6


async def test_a_host_that_stops_gives_back_and_the_next_goes_on(farm: SmallService, tmp_path: Path) -> None:
    gate = Gate()
    farm.policy = lambda _: gate
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        await gate.reached.wait()
    assert farm.provider.open_boxes == []
    again = SmallService(tmp_path)
    async with again.playing():
        (group,) = await collected(again, 1)
    assert group.result.complete
    await again.close()


async def test_a_host_removes_what_a_host_without_a_lease_left(tmp_path: Path) -> None:
    left = tmp_path / "owners" / "of-a-host-that-died.lock"
    left.parent.mkdir()
    left.touch()
    farm = SmallService(tmp_path)
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        await collected(farm, 1)
    await farm.close()
    assert list(left.parent.iterdir()) == []


async def test_a_host_whose_lease_was_taken_lets_go_and_commits_nothing(tmp_path: Path) -> None:
    late, gate = SmallService(tmp_path, lease_s=0.3), Gate()
    await late.open()
    late.policy = lambda _: gate
    other = SmallService(tmp_path)
    async with late.playing():
        await late.service.submit(A, asked(TASKS[0], members=1))
        await gate.reached.wait()
        (host,) = await other.leases.hosts()
        await other.leases.lapse(host)
        assert await other.leases.take_over_lapsed() == 1
        gate.open.set()
        late.policy = None
        (group,) = await collected(late, 1)
    assert group.result.complete
    assert len(late.played) == 2
    for one in (late, other):
        await one.close()


async def test_a_host_whose_housekeeping_takes_long_keeps_its_lease(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def forever(_: Sequence[EpisodeId]) -> None:
        begun.set()
        await asyncio.Event().wait()

    farm = SmallService(tmp_path, keep_s=0.0, lease_s=1.0, forget=forever)
    await farm.open()

    async def until() -> float:
        return await farm.leases._sql.read("until", lambda c: c.execute(select(LEASES.c.until)).scalar_one())

    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        await collected(farm, 1)
        await begun.wait()
        first = await until()
        while await until() < first + 3 * farm.lease_s:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
        assert await farm.leases.take_over_lapsed() == 0
    await farm.close()


async def test_what_is_let_go_before_it_began_takes_no_seat(farm: SmallService) -> None:
    await farm.service.submit(A, asked(TASKS[0], members=2))
    farm.host._lease = await farm.leases.take("here", lease_s=15.0)
    assert await farm.host._start_what_may()
    assert farm.host.view.live == 2
    assert (farm.host._held.total(), farm.host._flows.total()) == (2, 2)
    await farm.host._let_go()
    assert farm.host.view.live == 0
    assert not farm.host._held
    assert not farm.host._flows
    assert farm.played == []


async def test_a_database_that_fails_for_a_while_loses_no_outcome(tmp_path: Path) -> None:
    class Once(FailAt):
        left = 3

        def reach(self, point: str) -> None:
            if point == "outcome commit" and self.left:
                self.left -= 1
                raise StoreError("restarting")

    farm = SmallService(tmp_path, faults=Once("outcome commit", StoreError("")))
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0]))
        (group,) = await collected(farm, 1)
    assert group.result.complete
    assert len(farm.played) == 2, "nothing was played twice"
    await farm.close()


async def test_what_is_over_is_forgotten_and_what_is_not_acknowledged_is_kept(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, keep_s=0.0, lease_s=0.2)
    await farm.open()
    async with farm.playing():
        kept = await farm.service.submit(A, asked(TASKS[0]))
        gone = await farm.service.submit(B, asked(TASKS[0]))
        await collected(farm, 1, B)
        while True:
            try:
                await farm.service.get(B, gone.id)
            except NotFound:
                break
        assert (await farm.service.get(A, kept.id)).groups == {"ready": 1} or (await farm.service.get(A, kept.id)).state == "active"
        await collected(farm, 1, A)
    await farm.close()


async def test_a_trainer_drives_an_episode_and_no_step_runs_twice(farm: SmallService) -> None:
    async with farm.playing():
        view = await farm.steps.create(A, EpisodeRequest(task=TASKS[0]), key="mine", wait_s=30.0)
        assert (view.state, view.instruction, view.turns) == ("ready", "Make `add` add.", 0)
        assert (await farm.steps.create(A, EpisodeRequest(task=TASKS[0]), key="mine", wait_s=30.0)).id == view.id
        look = StepRequest(step_id="s1", action=Bash(command="ls"))
        for _ in range(3):
            seen = await farm.steps.step(A, view.id, look, wait_s=30.0)
            assert (seen.done, seen.observation and seen.observation.text, seen.episode.turns) == (True, "ls\n[exit status 0]", 1)
        with pytest.raises(Conflict, match="another action"):
            await farm.steps.step(A, view.id, StepRequest(step_id="s1", action=Bash(command="rm")), wait_s=1.0)
        for other in (farm.steps.get(B, view.id), farm.steps.step(B, view.id, look, wait_s=0.0), farm.steps.close(B, view.id)):
            with pytest.raises(NotFound):
                await other
        done = await farm.steps.step(A, view.id, StepRequest(step_id="end", action=Finish()), wait_s=30.0)
        assert done.done
        assert (done.episode.state, done.episode.terminated, done.episode.outcome) == ("ended", True, make_scored(1.0))
        assert (await farm.steps.step(A, view.id, look, wait_s=0.0)).observation is not None
        with pytest.raises(Conflict, match="over"):
            await farm.steps.step(A, view.id, StepRequest(step_id="late", action=Bash(command="ls")), wait_s=1.0)
    assert await farm.service.lease_results(A, LeaseRequest()) == ()


async def test_a_rollouts_episode_is_neither_driven_nor_called_off_by_itself(tmp_path: Path) -> None:
    farm, gate = SmallService(tmp_path), Gate()
    await farm.open()
    farm.policy = lambda _: gate
    async with farm.playing():
        rollout = await farm.service.submit(A, asked(TASKS[0]))
        await gate.reached.wait()
        ((_, row), _) = await farm.rollouts.episodes(A, rollout.id, after=-1, limit=2)
        episode = row.spec.episode_id
        with pytest.raises(Conflict, match="the policy 'nop' chooses") as refused:
            await farm.steps.step(A, episode, StepRequest(step_id="s1", action=Bash(command="ls")), wait_s=0.0)
        with pytest.raises(Conflict, match="as a whole") as kept:
            await farm.steps.close(A, episode)
        gate.open.set()
        (group,) = await collected(farm, 1)
    assert ("POST /v1/episodes" in refused.value.hint, kept.value.hint) == (True, f"DELETE /v1/rollouts/{rollout.id}")
    assert group.result.complete, "nothing was called off"
    with pytest.raises(Conflict):
        await farm.steps.close(A, episode)
    await farm.close()


async def test_a_budget_truncates_a_trainers_episode(farm: SmallService) -> None:
    async with farm.playing():
        view = await farm.steps.create(A, EpisodeRequest(task=TASKS[0], budgets=Budgets(turns=1)), key=None, wait_s=30.0)
        await farm.steps.step(A, view.id, StepRequest(step_id="s1", action=Bash(command="ls")), wait_s=30.0)
        end = await farm.steps.get(A, view.id, wait_s=30.0)
    assert (end.terminated, end.truncated) == (False, True)
    assert end.outcome == Censored("turns", make_scored(1.0))


async def test_a_trainers_episode_outlives_its_host(farm: SmallService, tmp_path: Path) -> None:
    step = StepRequest(step_id="s1", action=Bash(command="ls"))
    async with farm.playing():
        view = await farm.steps.create(A, EpisodeRequest(task=TASKS[0]), key=None, wait_s=30.0)
        await farm.steps.step(A, view.id, step, wait_s=30.0)
    again = SmallService(tmp_path)
    async with again.playing():
        back = await again.steps.get(A, view.id, wait_s=30.0)
        assert (back.state, back.turns) == ("ready", 1)
        assert (await again.steps.step(A, view.id, step, wait_s=30.0)).done, "it is known by its step id"
        closed = await again.steps.close(A, view.id)
    assert isinstance(closed.outcome, Invalid)
    await again.close()


async def test_an_episode_that_its_trainer_left_ends_by_itself_also_after_a_restart(farm: SmallService, tmp_path: Path) -> None:
    short = EpisodeRequest(task=TASKS[0], budgets=Budgets(idle_s=0.2))
    async with farm.playing():
        view = await farm.steps.create(A, short, key=None, wait_s=30.0)
    again = SmallService(tmp_path)
    async with again.playing():
        async for _ in again.service.events(A, (await again.rollouts.episode(A, view.id)).spec.run_id):
            pass
        left = await again.steps.get(A, view.id)
        ((listed,), _) = await again.lists.episodes(A, limit=1)
    assert (left.state, left.truncated, left.outcome) == ("ended", True, Censored("idle", make_scored(1.0)))
    assert (listed.reward, listed.verdict, listed.why) == (1.0, "censored (idle)", "nobody called for it any more; what was left scores 1")
    assert again.provider.open_boxes == []
    await again.close()


async def test_a_patch_is_graded(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, grader=rewards(make_scored(0.25)))
    await farm.open()
    async with farm.playing():
        request = RewardRequest(task=TASKS[0], patch="--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n")
        view = await farm.steps.reward(A, request, key="k", wait_s=30.0)
        assert (view.outcome, view.applied) == (make_scored(0.25), True)
        assert await farm.steps.reward(A, request, key="k", wait_s=30.0) == view
        empty = await farm.steps.reward(A, RewardRequest(task=TASKS[0], patch=""), key=None, wait_s=30.0)
        assert (empty.outcome, empty.applied) == (make_scored(0.25), None)
    await farm.close()


async def test_tasks_are_chosen_by_pass_rate_and_seed(farm: SmallService) -> None:
    from envfarm.controller.selection import drawn, in_band  # noqa: PLC0415 - used here alone
    from envfarm.stores.rollout_results import PassRate  # noqa: PLC0415 - used here alone

    rates = {"x": PassRate(scored=4, mean=0.5)}
    band = TaskSelector(min_pass_rate=0.2, max_pass_rate=0.8)
    assert [in_band(TaskDigest(t), band, rates) for t in ("x", "never scored")] == [True, False]
    assert not in_band(TaskDigest("x"), TaskSelector(max_pass_rate=0.4), rates)
    rows = await farm.catalogue.rows()
    assert drawn(rows, TaskSelector(limit=2, seed=1)) == drawn(rows, TaskSelector(limit=2, seed=1))
    assert len({tuple(r.name for r in drawn(rows, TaskSelector(limit=1, seed=s))) for s in range(20)}) > 1


async def test_unchecked_tasks_are_named_where_nothing_valid_is_selected(farm: SmallService) -> None:
    await farm.catalogue.add(make_task(name="made-up/new", language="rust"))
    with pytest.raises(UsageError, match="1 unchecked ones do, and are played only by name: made-up/new"):
        await farm.service.submit(A, asked().model_copy(update={"tasks": TaskSelector(language="rust")}))
    with pytest.raises(UsageError) as none:
        await farm.service.submit(A, asked().model_copy(update={"tasks": TaskSelector(language="zig")}))
    assert str(none.value) == "no valid task passes this selection"


async def test_an_episode_that_takes_its_hosts_down_again_and_again_is_given_up(tmp_path: Path) -> None:
    farm = SmallService(tmp_path)
    await farm.open()
    await farm.service.submit(A, asked(TASKS[0], members=1))
    for n in range(11):
        lease = await farm.leases.take(f"dead-{n}", lease_s=60.0)
        (waiting,) = await farm.queue.waiting(each=1)
        assert len((await farm.queue.claim(lease, [waiting.episode])).claims) == 1
        await farm.leases.lapse(f"dead-{n}")
        await farm.leases.take_over_lapsed()
    async with farm.playing():
        (group,) = await collected(farm, 1)
    outcome = group.result.members[0].outcome
    assert isinstance(outcome, Invalid)
    assert (outcome.cause, farm.provider.boxes) == ("farm", [])
    await farm.close()


async def test_a_reward_that_is_no_number_is_the_graders_fault_and_not_tried_for_ever(tmp_path: Path) -> None:
    farm = SmallService(tmp_path, grader=rewards(make_scored(math.nan)))
    await farm.open()
    async with farm.playing():
        await farm.service.submit(A, asked(TASKS[0], members=1))
        (group,) = await collected(farm, 1)
    outcome = group.result.members[0].outcome
    assert isinstance(outcome, Invalid)
    assert outcome.cause == "grader"
    await farm.close()


async def test_nothing_is_journalled_after_the_lease_may_have_lapsed(tmp_path: Path) -> None:
    clock = HeldClock()
    tenure = Tenure(clock)
    journal = FencedTrajectories(FileTrajectories(tmp_path), tenure, renewal_s=0.0)
    spec = make_spec(0)
    header = Header(episode=spec, environment_digest="d", instruction="i", box="b")
    with pytest.raises(StoreError, match="lapsed"):
        await journal.append(spec.episode_id, header)
    tenure.granted(tenure.now(), 15.0)
    await journal.append(spec.episode_id, header)
    clock.seconds = 15.0
    with pytest.raises(StoreError, match="lapsed"):
        await journal.append(spec.episode_id, header)
    assert (await journal.read(spec.episode_id)).header == header


async def test_a_line_waits_for_a_lease_that_is_late(tmp_path: Path) -> None:
    clock = HeldClock()
    tenure = Tenure(clock)
    journal = FencedTrajectories(FileTrajectories(tmp_path), tenure)
    spec = make_spec(0)
    writing = asyncio.create_task(journal.append(spec.episode_id, Header(episode=spec, environment_digest="d", instruction="i", box="b")))
    await asyncio.sleep(0.01)
    assert await journal.last(spec.episode_id) is None
    tenure.granted(tenure.now(), 15.0)
    await writing
    assert await journal.last(spec.episode_id) is not None
