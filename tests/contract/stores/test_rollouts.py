"""Rollouts, groups, versions, leases, tenants: the same on every database."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
from sqlalchemy import Connection, Engine, delete, event, insert, select, update

from envfarm.core.errors import Conflict, Denied, NotFound, Overloaded, UsageError
from envfarm.core.ids import EpisodeId, RunId, TenantId
from envfarm.core.rollout import Quota
from envfarm.stores.episode_schema import EPISODES, EVENTS, GROUPS, OUTCOMES, POLICIES, ROLLOUTS
from envfarm.stores.rollout_queue import Claimed, Share
from envfarm.stores.rollouts import COUNTED_CHARS, Asked, Happened
from envfarm.stores.sql import db_now
from envfarm.testing.factories import make_scored
from tests.contract.stores.one_process import DOWN, A, B, Stores, until_waiting, waiting_claim


async def test_a_rollout_is_played_group_by_group_and_handed_over(farm: Stores) -> None:
    await farm.ask(tasks=2, metadata={"step": "7"})
    claims = await farm.take()
    assert [c.version for c in claims] == [0] * 4
    await farm.play(*claims[:3])
    view = await farm.rollouts.get(A, RunId("r"))
    assert (view.state, view.groups, view.episodes) == ("active", {"ready": 1, "playing": 1}, {"done": 3, "running": 1})
    await farm.play(claims[3])
    leased = await farm.results.lease(A, limit=10, lease_s=60.0)
    assert [(g.result.complete, len(g.result.members), g.result.metadata) for g in leased] == [(True, 2, {"step": "7"})] * 2
    assert [m.outcome for m in leased[0].result.members] == [make_scored(1.0)] * 2
    assert await farm.results.lease(A, limit=10, lease_s=60.0) == ()
    told = await farm.results.acknowledge(A, [leased[0].lease, "made-up"])
    assert (told.acknowledged, told.lapsed) == ((leased[0].lease,), ("made-up",))
    assert (await farm.results.acknowledge(A, [leased[0].lease])).acknowledged == (leased[0].lease,), "safe to say again"
    assert (await farm.rollouts.get(A, RunId("r"))).state == "done"


async def test_rollouts_of_one_moment_are_all_listed_page_by_page(farm: Stores) -> None:
    for name in "abcd":
        await farm.ask(name)
    with farm.engine.begin() as c:
        c.execute(update(ROLLOUTS).where(ROLLOUTS.c.id.in_(("b", "c", "d"))).values(created=1.5))
    page, after = await farm.rollouts.mine(A, limit=5)
    assert ([view.id for view in page], after) == (["a", "b", "c", "d"], None)
    long, counted = max(len(view.request.model_dump_json()) for view in page), sum(page[0].episodes.values()) * COUNTED_CHARS
    for limit, most_chars in ((1, 1 << 20), (9, 1), (9, long + counted - 100)):
        found, after = await farm.rollouts.mine(A, limit=limit, most_chars=most_chars)
        assert len(found) == 1
        while after is not None:
            more, after = await farm.rollouts.mine(A, limit=limit, after=after, most_chars=most_chars)
            found += more
        assert found == page


async def test_events_have_no_gaps_and_can_be_resumed(farm: Stores) -> None:
    await farm.ask()
    await farm.play(*await farm.take())
    events = (await farm.rollouts.events(A, RunId("r"), after=0, limit=100)).events
    assert [e.number for e in events] == list(range(1, len(events) + 1))
    assert [e.kind for e in events] == ["accepted", "started", "started", "ended", "ended", "group ready", "done"]
    assert await farm.rollouts.events(A, RunId("r"), after=4, limit=2) == Happened(over=True, events=events[4:6])
    await farm.ask("next")
    assert not (await farm.rollouts.events(A, RunId("next"), after=0, limit=2)).over


async def test_a_key_names_one_request_for_ever_and_per_tenant(farm: Stores) -> None:
    assert (await farm.ask("one", key="k")).new
    assert await farm.ask("two", key="k") == Asked(rollout=RunId("one"), new=False)
    with pytest.raises(Conflict, match="another request"):
        await farm.ask("three", key="k", members=3)
    assert (await farm.ask("four", key="k", tenant=B)).rollout == "four"
    assert farm.count(ROLLOUTS.c.tenant == A) == 1


async def test_of_many_askers_at_once_with_one_key_one_makes_it(farm: Stores) -> None:
    asked = await asyncio.gather(*(farm.ask(f"r{n}", key="k") for n in range(8)))
    assert [a.new for a in asked].count(True) == 1
    assert len({a.rollout for a in asked}) == 1


async def test_queues_and_quotas_are_bounded(farm: Stores) -> None:
    with pytest.raises(Conflict, match="at once"):
        await farm.ask(members=5, most=4)
    await farm.ask(members=3, most=4)
    with pytest.raises(Overloaded) as full:
        await farm.ask("more", most=4)
    assert full.value.retry_after_s > 0
    await farm.access.add_tenant(A, Quota(unfinished_episodes=4))
    with pytest.raises(Overloaded, match="tenant's quota"):
        await farm.ask("more")
    await farm.ask("theirs", tenant=B)


async def test_a_member_that_fails_is_played_again_in_its_groups_version(farm: Stores) -> None:
    await farm.ask()
    one, two = await farm.take()
    assert await farm.queue.put_back(one, detail="down\0", attempts=1)
    await farm.play(two)
    assert (await farm.results.lease(A, limit=1, lease_s=60.0)) == (), "the group is not short"
    (again,) = await farm.take()
    assert (again.spec, again.attempts, again.version) == (one.spec, 1, 0)
    await farm.play(again)
    (group,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    assert group.result.complete


async def test_what_a_host_holds_and_plays_no_more_is_found(farm: Stores) -> None:
    await farm.ask(members=3)
    one, two, three = await farm.take()
    await farm.play(one)
    playing = {(two.spec.episode_id, two.epoch), (three.spec.episode_id, three.epoch - 1)}
    assert await farm.queue.strays("host", playing) == [three], "an earlier claim of it is another one"
    assert await farm.queue.strays("another", ()) == []
    assert await farm.queue.put_back(three, detail="lost", attempts=1)
    assert await farm.queue.strays("host", playing) == []


async def test_a_retry_waits_for_its_time(farm: Stores) -> None:
    await farm.ask(members=1)
    (claim,) = await farm.take()
    await farm.queue.put_back(claim, detail="down", attempts=1, wait_s=1000.0)
    assert await farm.take() == []
    assert 900 < (await farm.queue.next_due_s() or 0) <= 1000


async def test_a_poisoned_member_is_shown_and_not_left_out(farm: Stores) -> None:
    await farm.ask()
    one, two = await farm.take()
    assert await farm.queue.settle(one, DOWN)
    await farm.play(two)
    (group,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    assert not group.result.complete
    assert [m.outcome for m in group.result.members] == [DOWN, make_scored(1.0)]


async def test_a_group_whose_version_passed_begins_anew_in_the_new_one(farm: Stores) -> None:
    await farm.ask(members=3)
    (first,) = await farm.take(1)
    await farm.play(first, reward=0.0)
    assert await farm.policies.move_on(A, "default", 1) == []
    assert await farm.take() == [], "no member is played under another version"
    again = await farm.take()
    assert [c.version for c in again] == [1, 1, 1]
    assert len({c.spec.episode_id for c in again} | {first.spec.episode_id}) == 4
    await farm.play(*again)
    (group,) = await farm.results.lease(A, limit=9, lease_s=60.0)
    assert (group.result.version, [m.outcome for m in group.result.members]) == (1, [make_scored(1.0)] * 3)
    assert (await farm.rollouts.get(A, RunId("r"))).episodes == {"done": 3}


async def test_a_version_too_far_on_calls_off_what_is_in_flight(farm: Stores) -> None:
    await farm.ask("near", version_window=2)
    await farm.ask("far", version_window=1)
    claims = await farm.take()
    assert await farm.policies.move_on(A, "default", 1) == []
    flying = await farm.policies.move_on(A, "default", 2)
    assert sorted(flying) == sorted(c.spec.episode_id for c in claims if c.spec.run_id == "far")
    for claim in claims:
        assert await farm.queue.settle(claim, make_scored(1.0)) == (claim.spec.run_id == "near"), "the called off are fenced"
    with pytest.raises(Conflict, match="never go back") as refused:
        await farm.policies.move_on(A, "default", 1)
    assert "GET /v1/policies/default has the newest" in refused.value.hint
    assert await farm.policies.move_on(A, "default", 2) == []


async def test_pause_and_abort(farm: Stores) -> None:
    await farm.ask()
    (claim,) = await farm.take(1)
    await farm.policies.pause(A, "default", paused=True)
    assert await farm.take() == []
    assert await farm.policies.abort(B, "default") == []
    assert await farm.policies.abort(A, "default") == [claim.spec.episode_id]
    assert not await farm.queue.settle(claim, make_scored(1.0))
    await farm.policies.pause(A, "default", paused=False)
    again = await farm.take()
    assert len(again) == 2
    assert claim.spec.episode_id not in {c.spec.episode_id for c in again}


async def test_what_was_seen_before_a_pause_is_not_claimed_behind_it(farm: Stores) -> None:
    await farm.ask()
    seen = [w.episode for w in await farm.queue.waiting(each=9)]
    await farm.policies.pause(A, "default", paused=True)
    assert await farm.queue.claim(farm.lease, seen) == Claimed(claims=(), fenced=False)
    await farm.policies.pause(A, "default", paused=False)
    assert len((await farm.queue.claim(farm.lease, seen)).claims) == 2


async def test_a_claim_and_the_first_pause_of_a_policy_come_one_after_the_other(farm: Stores, opened: Callable[[], Engine]) -> None:
    async with waiting_claim(farm, opened) as (claiming, looking):
        pausing = asyncio.create_task(farm.policies.pause(A, "default", paused=True))
        await until_waiting(looking, 2)
        assert not pausing.done(), "what is claimed already is there to be aborted behind the pause"
    assert len(await claiming) == 2
    await pausing


async def test_a_cancelled_rollout_is_over_and_its_late_outcomes_are_refused(farm: Stores) -> None:
    await farm.ask(tasks=2)
    one, two, three, _ = await farm.take()
    await farm.play(one, two)
    await farm.queue.put_back(three, detail="", attempts=0)
    assert len(await farm.rollouts.cancel(A, RunId("r"), "enough")) == 1
    assert await farm.rollouts.cancel(A, RunId("r"), "enough") == []
    assert not await farm.queue.settle(three, make_scored(1.0))
    view = await farm.rollouts.get(A, RunId("r"))
    assert (view.state, view.groups) == ("cancelled", {"ready": 1, "cancelled": 1})
    assert farm.count(OUTCOMES.c.episode_id != "") == 4, "each episode has its one outcome"
    assert len(await farm.results.lease(A, limit=9, lease_s=60.0)) == 1, "what was finished can be had"


async def test_what_waits_of_a_policy_is_looked_up_and_not_sought_among_all_that_wait(farm: Stores) -> None:
    await farm.ask("many", members=1000)
    await farm.ask("few", policy_name="p")
    said: list[tuple[str, object]] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append((about[2], about[3])))
    assert len(await farm.queue.waiting(each=10, share=Share(never=frozenset({"trainer"})))) == 12
    statement, parameters = said[-1]
    explain = "EXPLAIN QUERY PLAN " if farm.engine.dialect.name == "sqlite" else "EXPLAIN "
    with farm.engine.begin() as c:
        c.exec_driver_sql("ANALYZE")
        plan = " ".join(str(row) for row in c.exec_driver_sql(explain + statement, parameters))  # type: ignore[arg-type]
    assert "episodes_waiting" in plan, plan
    assert "sort" not in plan.lower().replace("b-tree", "sort"), plan


async def test_names_of_policies_are_bounded(farm: Stores) -> None:
    await farm.access.add_tenant(A, Quota(active_policies=2))
    for name in ("p", "q", "p"):
        await farm.ask(f"r-{name}-{farm.count(ROLLOUTS.c.id != '')}", policy_name=name, members=1)
    with pytest.raises(Overloaded, match="policy names"):
        await farm.ask("more", policy_name="r")
    await farm.ask("theirs", policy_name="r", tenant=B)
    await farm.rollouts.cancel(A, RunId("r-q-1"), "enough")
    await farm.ask("more", policy_name="r")


async def test_names_that_are_paused_and_not_played_are_not_looked_at(farm: Stores) -> None:
    await farm.ask("r", policy_name="p")
    await farm.ask("theirs", policy_name="p", tenant=B)
    await farm.policies.pause(B, "p", paused=True)
    with farm.engine.begin() as c:
        c.execute(insert(POLICIES), [{"tenant": A, "name": f"p{n}", "version": 0, "paused": 1} for n in range(5000)])
    said: list[tuple[str, object]] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append((about[2], about[3])))
    assert {w.tenant for w in await farm.queue.waiting(each=1)} == {A}
    asked = [one for one in said if "policies" in one[0]]
    explain = "EXPLAIN QUERY PLAN " if farm.engine.dialect.name == "sqlite" else "EXPLAIN "
    with farm.engine.begin() as c:
        c.exec_driver_sql("ANALYZE")
        plan = " ".join(str(row) for row in c.exec_driver_sql(explain + asked[0][0], asked[0][1]))  # type: ignore[arg-type]
    assert len(asked) == 1
    assert not re.search("SCAN policies|Seq Scan on policies", plan), plan


async def test_names_of_policies_are_kept_where_they_say_something_and_are_bounded(farm: Stores) -> None:
    await farm.access.add_tenant(A, Quota(remembered_policies=2))
    await farm.policies.abort(A, "a")
    await farm.policies.pause(A, "a", paused=False)
    await farm.policies.move_on(A, "a", 0)
    assert farm.count(POLICIES.c.name != "") == 0
    await farm.policies.pause(A, "a", paused=True)
    await farm.policies.move_on(A, "b", 3)
    for refused in (farm.policies.pause(A, "c", paused=True), farm.policies.move_on(A, "c", 1)):
        with pytest.raises(Conflict, match="the tenant has 2 policy names") as told:
            await refused
        assert "resume one at version 0" in told.value.hint
    await farm.policies.move_on(A, "b", 4)
    await farm.policies.pause(A, "b", paused=True)
    await farm.policies.pause(B, "c", paused=True)
    await farm.policies.pause(A, "a", paused=False)
    await farm.policies.pause(A, "c", paused=True)
    assert farm.count(POLICIES.c.tenant == A) == 2


async def test_a_name_that_says_nothing_goes_with_its_last_rollout(farm: Stores) -> None:
    for run in ("first", "last"):
        await farm.ask(run, members=1, policy_name="p")
        await farm.play(*await farm.take(1))
    for run in ("first", "last"):
        assert farm.count(POLICIES.c.name == "p") == 1
        (leased,) = await farm.results.lease(A, limit=1, lease_s=60.0, rollouts=[RunId(run)])
        await farm.results.acknowledge(A, [leased.lease])
        await farm.policies.pause(A, "p", paused=False)
        await farm.results.forget(await farm.results.over(older_s=0.0), older_s=0.0)
    assert farm.count(POLICIES.c.name == "p") == 0


async def test_a_name_that_is_let_go_of_while_somebody_pauses_it_is_paused(farm: Stores, opened: Callable[[], Engine]) -> None:
    await farm.ask(policy_name="p")
    await farm.take(1)
    if farm.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer")
    other, gone = opened(), list[int]()

    @event.listens_for(farm.engine, "after_cursor_execute")
    def let_go(*about: object) -> None:
        if str(about[2]).startswith("INSERT INTO policies") and not gone:
            with other.begin() as c:
                gone.append(c.execute(delete(POLICIES)).rowcount)

    await farm.policies.pause(A, "p", paused=True)
    assert gone == [1]
    assert (await farm.policies.get(A, "p")).paused


async def test_what_a_tenant_has_live_is_counted_over_all_hosts(farm: Stores, opened: Callable[[], Engine]) -> None:
    other = Stores(opened())
    await farm.ask(members=3)
    await farm.ask("theirs", tenant=B)
    mine = await farm.take(2)
    await other.take(2, await other.leases.take("other", lease_s=60.0))
    assert await farm.queue.live({A, B}) == {A: 3, B: 1}
    await farm.play(*mine)
    assert await farm.queue.live({A}) == {A: 1}
    await other.episodes.close()


async def test_when_the_next_is_due_is_looked_up_and_not_sought_among_all_that_wait(farm: Stores) -> None:
    await farm.ask(members=1000)
    said: list[tuple[str, object]] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append((about[2], about[3])))
    assert await farm.queue.next_due_s() is None
    statement, parameters = said[-1]
    explain = "EXPLAIN QUERY PLAN " if farm.engine.dialect.name == "sqlite" else "EXPLAIN "
    with farm.engine.begin() as c:
        c.exec_driver_sql("ANALYZE")
        plan = " ".join(str(row) for row in c.exec_driver_sql(explain + statement, parameters))  # type: ignore[arg-type]
    assert "episodes_pending" in plan, plan


async def test_asking_takes_no_statement_per_episode_nor_per_group(farm: Stores) -> None:
    said: list[str] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append(about[2]))
    await farm.ask(tasks=20, members=100)
    assert len(said) < 30, said
    assert farm.count(EPISODES.c.state == "pending") == 2000
    first = await farm.rollouts.episodes(A, RunId("r"), after=-1, limit=101)
    assert [(place, row.spec.member) for place, row in first] == [*((n, n) for n in range(100)), (100, 0)], "group by group"
    view = await farm.rollouts.get(A, RunId("r"))
    assert (view.groups, view.episodes) == ({"waiting": 20}, {"pending": 2000})


async def test_calling_off_takes_no_statement_per_episode(farm: Stores) -> None:
    await farm.ask(members=200)
    assert len(await farm.take(150)) == 150
    said: list[str] = []
    event.listen(farm.engine, "before_cursor_execute", lambda *about: said.append(about[2]))
    assert len(await farm.rollouts.cancel(A, RunId("r"), "enough")) == 150
    assert len(said) < 15, said
    assert farm.count(OUTCOMES.c.kind == "invalid") == 200


async def test_all_that_a_tenant_has_is_cancelled_and_nobody_elses(farm: Stores) -> None:
    for name in ("one", "two", "over"):
        await farm.ask(name, members=2)
    await farm.rollouts.cancel(A, RunId("over"), "enough")
    await farm.ask("others", tenant=B)
    assert len(await farm.take(2)) == 2
    active = await farm.rollouts.active(A)
    assert active == ("one", "two")
    gone = await farm.rollouts.cancel_each([*active, RunId("over"), RunId("none")], "stopped")
    assert (gone.rollouts, len(gone.flying)) == (active, 2)
    assert farm.count(OUTCOMES.c.kind == "invalid", OUTCOMES.c.reward.is_(None)) == 6
    assert (await farm.rollouts.active(A), await farm.rollouts.active(B)) == ((), ("others",))
    assert (await farm.rollouts.cancel_each(active, "again")).rollouts == ()
    with pytest.raises(NotFound):
        await farm.rollouts.active(TenantId("nobody"))


async def test_a_deadline_cancels(farm: Stores) -> None:
    await farm.ask("late", deadline_s=1e-9)
    await farm.ask("early", deadline_s=1000.0)
    assert (await farm.rollouts.expire()).rollouts == ("late",)
    assert (await farm.rollouts.get(A, RunId("late"))).state == "cancelled"
    assert (await farm.rollouts.get(A, RunId("early"))).state == "active"


async def test_a_lease_on_results_that_lapses_is_given_again(farm: Stores) -> None:
    await farm.ask()
    await farm.play(*await farm.take())
    (first,) = await farm.results.lease(A, limit=1, lease_s=0.0)
    (second,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    assert not first.result.redelivered, "nobody had it before"
    assert second.result == first.result.model_copy(update={"redelivered": True})
    assert (await farm.results.acknowledge(A, [first.lease])).lapsed == (first.lease,)
    await farm.ask("lapsed")
    await farm.play(*await farm.take())
    await farm.results.lease(A, limit=1, lease_s=0.0)
    assert 0 < (await farm.results.next_free_s(A) or 0) <= 60, "what is free already is no reason to look again"
    assert await farm.results.next_free_s(A, [RunId("lapsed")]) is None
    await farm.results.acknowledge(A, [second.lease])
    assert await farm.results.next_free_s(A) is None


async def test_of_many_trainers_at_once_each_group_has_one(farm: Stores, opened: Callable[[], Engine]) -> None:
    await farm.ask(tasks=12, members=1)
    await farm.play(*await farm.take())
    trainers = [Stores(opened()) for _ in range(3)]
    leased = await asyncio.gather(*(t.results.lease(A, limit=4, lease_s=60.0) for t in trainers))
    groups = [g.result.group for some in leased for g in some]
    assert len(groups) == len(set(groups))
    rest = await farm.results.lease(A, limit=12, lease_s=60.0)
    assert len(groups) + len(rest) == 12


async def test_a_lease_ends_by_size_and_is_read_when_nobody_waits_for_it(farm: Stores) -> None:
    await farm.ask(tasks=3, members=2)
    await farm.play(*await farm.take())
    writing: list[str] = []

    @event.listens_for(farm.engine, "before_cursor_execute")
    def note(*about: object) -> None:
        connection, _, statement, *_ = about
        assert isinstance(connection, Connection)
        if connection.get_execution_options().get("envfarm_write"):
            writing.append(str(statement))

    sizes = [len(await farm.results.lease(A, limit=9, lease_s=60.0, most_chars=most)) for most in (1, 1 << 20)]
    assert sizes == [1, 2], "one in any case"
    assert [s.split()[0] for s in writing if not s.startswith("BEGIN")] == ["UPDATE"] * 3, "other writers wait for nothing else"


async def test_what_another_trainer_took_meanwhile_is_no_reason_to_come_away_with_nothing(
    farm: Stores, opened: Callable[[], Engine]
) -> None:
    await farm.ask(tasks=2, members=1)
    await farm.play(*await farm.take())
    other = opened()

    @event.listens_for(farm.engine, "commit", once=True)
    def take(_: Connection) -> None:  # between looking and taking
        with other.begin() as c:
            oldest = select(GROUPS.c.id).order_by(GROUPS.c.ready, GROUPS.c.id).limit(1).scalar_subquery()
            c.execute(update(GROUPS).where(GROUPS.c.id == oldest).values(lease="theirs", lease_until=db_now() + 60.0))

    (mine,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    assert not mine.result.redelivered
    assert farm.count(GROUPS.c.lease == "theirs", GROUPS.c.id != mine.result.group) == 1
    assert await farm.results.lease(A, limit=1, lease_s=60.0) == ()


async def test_pass_rates_are_of_all_tasks_or_of_some(farm: Stores) -> None:
    await farm.ask(tasks=2, members=2)
    first, *others = await farm.take()
    await farm.play(first, reward=0.0)
    await farm.play(*others)
    rates = await farm.results.pass_rates(A)
    mixed = first.spec.task
    assert {task: (rate.scored, rate.mean) for task, rate in rates.items()} == {
        c.spec.task: (2, 0.5 + 0.5 * (c.spec.task != mixed)) for c in others
    }
    assert await farm.results.pass_rates(A, [mixed]) == {mixed: rates[mixed]}
    assert await farm.results.pass_rates(A, []) == {}


async def test_a_name_that_no_database_can_hold_is_the_callers_mistake(farm: Stores) -> None:
    await farm.ask()
    nul = RunId("r\0")
    # SQLite holds NUL and finds nothing by it; PostgreSQL holds none.
    for asked in (farm.rollouts.get(A, nul), farm.rollouts.cancel(A, nul, "why"), farm.rollouts.events(A, nul, after=0, limit=1)):
        with pytest.raises((NotFound, UsageError)):
            await asked
    for harmless in (farm.results.lease(A, limit=1, lease_s=1.0, rollouts=(nul,)), farm.results.acknowledge(A, ["\0"])):
        with suppress(UsageError):
            await harmless


async def test_a_tenant_sees_nothing_of_anothers(farm: Stores) -> None:
    await farm.ask()
    claims = await farm.take()
    await farm.play(*claims)
    (leased,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    for asked in (
        farm.rollouts.get(B, RunId("r")),
        farm.rollouts.events(B, RunId("r"), after=0, limit=1),
        farm.rollouts.episodes(B, RunId("r"), after=-1, limit=1),
        farm.rollouts.episode(B, claims[0].spec.episode_id),
        farm.rollouts.cancel(B, RunId("r"), "mine now"),
    ):
        with pytest.raises(NotFound):
            await asked
    assert await farm.rollouts.mine(B, limit=10) == ((), None)
    assert await farm.results.lease(B, limit=1, lease_s=60.0) == ()
    assert await farm.results.lease(B, limit=1, lease_s=60.0, rollouts=[RunId("r")]) == ()
    assert (await farm.results.acknowledge(B, [leased.lease])).lapsed == (leased.lease,)
    assert await farm.results.group_of(B, claims[0].spec.episode_id) is None
    assert await farm.results.pass_rates(B) == {}
    assert [r.scored for r in (await farm.results.pass_rates(A)).values()] == [2]


async def test_only_what_is_over_and_acknowledged_is_forgotten(farm: Stores) -> None:
    await farm.ask("kept")
    await farm.ask("gone")
    await farm.ask("active", tenant=B)
    claims = await farm.take()
    await farm.play(*(c for c in claims if c.spec.run_id != "active"))
    leased = await farm.results.lease(A, limit=9, lease_s=60.0)
    await farm.results.acknowledge(A, [g.lease for g in leased if g.result.rollout == "gone"])
    assert await farm.results.over(older_s=1000.0) == ()
    everything = [EpisodeId(one) for one in (c.spec.episode_id for c in claims)]
    await farm.results.forget(everything, older_s=1000.0)
    first = await farm.results.over(older_s=0.0, limit=1)
    assert {e.split(".")[0] for e in first} == {"gone"}
    await farm.results.forget(first, older_s=0.0)
    assert (await farm.rollouts.get(A, RunId("gone"))).state == "done", "it goes with its last episode"
    await farm.results.forget(everything, older_s=0.0)
    assert await farm.results.over(older_s=0.0) == ()
    assert [[r.id for r in (await farm.rollouts.mine(tenant, limit=9))[0]] for tenant in (A, B)] == [["kept"], ["active"]]
    assert farm.count(EVENTS.c.rollout_id == "gone") == 0


async def test_a_rollout_is_kept_from_its_last_acknowledgement_on_however_long_it_was_over(farm: Stores) -> None:
    await farm.ask()
    await farm.play(*await farm.take())
    with farm.engine.begin() as c:
        c.execute(update(ROLLOUTS).values(ended=ROLLOUTS.c.ended - 5000.0))
    (leased,) = await farm.results.lease(A, limit=1, lease_s=60.0)
    await farm.results.acknowledge(A, [leased.lease])
    assert await farm.results.over(older_s=1000.0) == ()
    with farm.engine.begin() as c:
        c.execute(update(GROUPS).values(acknowledged=GROUPS.c.acknowledged - 2000.0))
    assert (await farm.results.acknowledge(A, [leased.lease])).acknowledged == (leased.lease,)
    assert len(await farm.results.over(older_s=1000.0)) == 2, "said again, it is no later"


async def test_what_is_asked_for_by_itself_is_leased_by_nobody(farm: Stores) -> None:
    await farm.ask(kind="reward", members=1)
    (claim,) = await farm.take()
    await farm.play(claim)
    assert await farm.results.lease(A, limit=1, lease_s=60.0) == ()
    found = await farm.results.group_of(A, claim.spec.episode_id)
    assert found is not None
    assert found.complete


async def test_waiting_episodes_come_oldest_first_for_each_tenant_and_policy(farm: Stores) -> None:
    await farm.ask("first", policy_name="p")
    await farm.ask("second", policy_name="p")
    await farm.ask("other", policy_name="q")
    await farm.ask("theirs", tenant=B)
    waiting = await farm.queue.waiting(each=3)
    assert [(w.tenant, w.policy, w.episode.split(".")[0]) for w in waiting] == [
        *(("a", "p", "first"), ("a", "p", "first"), ("a", "p", "second")),
        *(("a", "q", "other"), ("a", "q", "other"), ("b", "default", "theirs"), ("b", "default", "theirs")),
    ]


async def test_what_waits_behind_tasks_that_are_left_out_is_seen(farm: Stores) -> None:
    await farm.ask(tasks=2)
    seen = await farm.queue.waiting(each=1)
    behind = await farm.queue.waiting(each=9, but={seen[0].task})
    assert len(behind) == 2
    assert seen[0].task not in {one.task for one in behind}


async def test_tokens_are_known_by_digest_and_can_be_revoked(farm: Stores) -> None:
    token = await farm.access.issue(A, "laptop", {"rollouts", "tasks"})
    assert await farm.access.issue(A, "laptop", set(), token=token) == token
    who = await farm.access.who(token)
    assert (who.tenant, who.scopes) == (A, frozenset({"rollouts", "tasks"}))
    await farm.access.widen(B, "laptop", {"admin"})
    await farm.access.widen(A, "laptop", {"rollouts", "tasks", "catalogue"})
    assert (await farm.access.who(token)).scopes == frozenset({"rollouts", "tasks", "catalogue"})
    for wrong in ("", token[:-1], token + "x", "\ud800"):
        with pytest.raises(Denied):
            await farm.access.who(wrong)
    with pytest.raises(UsageError, match="no scope"):
        await farm.access.issue(A, "x", {"everything"})
    with pytest.raises(NotFound):
        await farm.access.issue(TenantId("nobody"), "x", {"tasks"})
    assert await farm.access.revoke(B, "laptop") == 0
    assert await farm.access.revoke(A, "laptop") == 1
    with pytest.raises(Denied):
        await farm.access.who(token)
