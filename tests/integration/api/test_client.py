"""Our own clients against a served farm, and against servers on a bad day."""

import asyncio
import json
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from pydantic import SecretStr

from envfarm.client import (
    AsyncClient,
    Client,
    EngineSpec,
    EpisodeRequest,
    LeaseRequest,
    ModelCall,
    NewDataset,
    NewToken,
    PolicySpec,
    Quota,
    RetryPolicy,
    RewardRequest,
    RolloutRequest,
    ServerProblem,
    StepRequest,
    TaskSelector,
    UsageQuery,
)
from envfarm.client.calls import EventFeed
from envfarm.client.exchange import Answer, Call, Send, Sleep, exchange
from envfarm.core.action import Bash
from envfarm.core.errors import Conflict
from envfarm.core.ids import RunId
from envfarm.integrations.driving import DrivenEpisode
from envfarm.testing.chat_server import Line, chat_server
from envfarm.testing.scripted_server import Reply, ScriptedServer, serving
from tests.integration.api.conftest import Site
from tests.integration.api.many_calls import answers

ASKED = RolloutRequest(tasks=TaskSelector(names=("made-up/t0", "made-up/t1")), group_size=2, policy=PolicySpec(name="nop"))
QUICK = RetryPolicy(tries=3, first_wait_s=0.0, longest_wait_s=0.0)
ROOT = Path(__file__).parents[3]
STATE = {"name": "default", "version": 7, "paused": False}


async def test_the_asynchronous_client_makes_a_trainers_loop(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        rollout = await farm.submit(ASKED, key="k")
        assert (await farm.submit(ASKED, key="k")).id == rollout.id
        groups = [group async for group in farm.groups(rollouts=[rollout.id])]
        assert [len(g.members) for g in groups] == [2, 2]
        assert {g.task_name for g in groups} == {"made-up/t0", "made-up/t1"}
        assert (await farm.rollout(rollout.id)).groups == {"acknowledged": 2}
        events = [e async for e in farm.events(rollout.id)]
        assert [e.number for e in events] == list(range(1, len(events) + 1))
        assert [e async for e in farm.events(rollout.id, after=3)] == events[3:]
        told = [t async for t in farm.trajectories(rollout.id, page=3)]
        assert [len(t.trajectory.steps) for t in told if t.trajectory] == [2] * 4
        used = [line async for line in farm.usage(UsageQuery(by="episode", rollout=rollout.id))]
        assert [(line.attempts, line.estimated, line.usage.boxes) for line in used] == [(1, 0, 1)] * 4
        assert all(line.usage.cpu_granted_s > 0 for line in used)
        assert [t.name async for t in farm.tasks(TaskSelector(language="go"))] == ["made-up/t1", "made-up/t3"]
        assert (await farm.task("made-up/t1")).instruction == (await farm.task(groups[0].task)).instruction != ""


async def test_groups_are_leased_one_at_a_time_and_say_that_they_were_given_out_before(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        run = (await farm.submit(ASKED)).id
        mine = await anext(farm.groups(rollouts=[run]))
        (free,) = await farm.lease(LeaseRequest(limit=9, wait_s=30.0, lease_s=0.001))
        assert free.result.group != mine.group
        again = await anext(farm.groups(rollouts=[run]))
        assert again.group == free.result.group
        assert (mine.redelivered, free.result.redelivered, again.redelivered) == (False, False, True)


async def test_a_trainer_hears_of_a_group_that_went_to_another_meanwhile(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        run = (await farm.submit(ASKED.model_copy(update={"tasks": TaskSelector(names=("made-up/t0",))}))).id
        slow = farm.groups(rollouts=[run], lease_s=0.001)
        mine = await anext(slow)
        (other,) = await farm.lease(LeaseRequest(wait_s=30.0))
        assert (other.result.group, other.result.redelivered) == (mine.group, True)
        await farm.acknowledge([other.lease])
        assert [group async for group in slow] == []
    assert [record.args for record in caplog.records if record.name.startswith("envfarm.client")] == [(mine.group, 0.001)]


@pytest.mark.parametrize("site", [0.05], indirect=True)
async def test_a_stream_that_the_server_ends_is_asked_for_again(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        await farm.pause()
        rollout = await farm.submit(ASKED)
        feed = farm.events(rollout.id)
        assert [(await anext(feed)).kind] == ["accepted"]
        following, before = asyncio.ensure_future(anext(feed)), answers(site.metrics)["200"]
        while answers(site.metrics)["200"] < before + 3:  # noqa: ASYNC110 - answers ring no bell
            await asyncio.sleep(0.01)
        await farm.resume()
        assert (await following).kind == "started"
        assert [event.kind async for event in feed][-1] == "done"


async def test_events_behind_the_last_one_of_a_rollout_that_is_over_are_none(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        rollout = await farm.submit(ASKED)
        last = [event async for event in farm.events(rollout.id)][-1]
        before = answers(site.metrics)["200"]
        assert [event async for event in farm.events(rollout.id, after=last.number)] == []
        with Client(site.url, site.token) as plain:
            assert await asyncio.to_thread(lambda: list(plain.events(rollout.id, after=last.number))) == []
    assert answers(site.metrics)["204"] == 2
    assert answers(site.metrics)["200"] == before


def loop_of(url: str, token: str) -> list[float]:
    with Client(url, token) as farm:
        rollout = farm.submit(ASKED)
        rewards = [m.outcome.reward for g in farm.groups(rollouts=[rollout.id]) for m in g.members if m.outcome.kind == "scored"]
        assert [e.kind for e in farm.events(rollout.id)][-1] == "done"
        assert farm.new_version(3).version == 3
        assert farm.pause().paused
        assert not farm.resume().paused
        assert farm.abort().version == farm.policy().version == 3
        assert len(list(farm.trajectories(rollout.id))) == 4
        return rewards


async def test_the_synchronous_client_makes_the_same_loop(site: Site) -> None:
    assert await asyncio.to_thread(loop_of, site.url, site.token) == [1.0] * 4


async def test_episodes_and_rewards_by_the_client(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        episode = await farm.create_episode(EpisodeRequest(task="made-up/t0"))
        step = StepRequest(step_id="1", action=Bash(command="ls"))
        seen = await farm.step(episode.id, step, wait_s=0.0)
        assert seen.observation is not None
        assert (await farm.grade(episode.id, wait_s=0.01)).terminated
        assert (await farm.reward(RewardRequest(task="made-up/t0", patch=""), wait_s=0.01)).outcome is not None
        other = await farm.create_episode(EpisodeRequest(task="made-up/t0"))
        assert (await farm.close_episode(other.id)).state == "ended"


async def test_a_groups_members_come_with_their_rows_whatever_the_steps_are_called(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        asked = ASKED.model_copy(update={"policy": PolicySpec(name="trainer")})
        stored: str = (await farm.submit(asked)).id
        for n, one in enumerate([info async for info in farm.episodes(stored)]):
            while (await farm.episode(one.id, wait_s=30.0)).state == "queued":
                pass
            call = ModelCall(prompt_ids=(1,), completion_ids=(2, n), logprobs=(-0.5, -0.25), weight_version="7")
            await farm.step(one.id, StepRequest(step_id=f"first of {one.id}", action=Bash(command="ls"), call=call))
            await farm.grade(one.id)
        groups = [group async for group in farm.groups(rollouts=[stored])]
        for group in groups:
            played = [one async for one in farm.trajectories(stored, group=group.group, page=1)]
            assert [one.spec.episode_id for one in played] == [member.episode for member in group.members]
            assert all(one.outcome == member.outcome for one, member in zip(played, group.members, strict=True))
            rows = [row for one in played if one.trajectory for row in one.trajectory.rows()]
            assert [(row.ids[:2], row.mask, row.segments[0].weight_version) for row in rows] == [((1, 2), (0, 1, 1), "7")] * 2
        with pytest.raises(ServerProblem, match="no group 'nosuch'"):
            await anext(farm.trajectories(stored, group="nosuch"))


async def test_datasets_and_explanations_by_the_client(site: Site) -> None:
    async with AsyncClient(site.url, site.token) as farm:
        made = await farm.create_dataset(NewDataset(name="d", version="1", splits={"train": ("made-up/t0",)}))
        assert await farm.datasets() == ("d@1",)
        assert await farm.dataset("d@1") == made
        rollout = await farm.submit(ASKED)
        (first, *_) = [group async for group in farm.groups(rollouts=[rollout.id])]
        stored: str = first.members[0].episode
        told = await farm.explanation(stored)
        assert (told.task_name, told.state, told.verdict, told.why[0]) == (
            first.task_name,
            "done",
            "1",
            "reward 1: every expected test passes",
        )
        with pytest.raises(ServerProblem) as refused:
            await farm.blob(stored, "sha256:" + "0" * 64)
        assert refused.value.status == 404
        spec = (await farm.trajectory(stored)).header.episode
        kept = await site.farm.blobs.put(b"experts")
        site.farm.blobs.hold(spec.episode_id, [kept.digest])
        assert await farm.blob(stored, kept.digest) == b"experts"


async def test_an_operator_makes_tenants_tokens_and_engines_by_the_client(site: Site) -> None:
    async with AsyncClient(site.url, site.admin_token) as farm:
        assert await farm.put_tenant("c", Quota(live_episodes=7)) == Quota(live_episodes=7)
        assert [(use.tenant, use.quota.live_episodes) for use in await farm.tenants()][-1] == ("c", 7)
        token = await farm.issue_token("c", NewToken(name="trainer", scopes=frozenset({"tasks"})))
        async with AsyncClient(site.url, token) as theirs:
            assert ((await theirs.me()).tenant, (await theirs.me()).scopes, (await theirs.use()).episodes) == ("c", ("tasks",), {})
            assert await farm.revoke_token("c", "trainer") == 1
            with pytest.raises(ServerProblem, match="401"):
                await theirs.me()
        assert (await farm.cancel_tenant("c")).rollouts == 0
        engine = EngineSpec(name="e", kind="vllm", url="http://e", api_key=SecretStr("sk"))
        for wanted in ([engine], await farm.put_engines([engine])):
            (seen,) = await farm.put_engines(wanted)
            assert (seen, await farm.engines()) == (engine.model_copy(update={"api_key": SecretStr("")}), (seen,))
            assert [one.api_key.get_secret_value() for one in await site.farm.engines.get()] == ["sk"]


def driven_by_two(url: str, token: str) -> None:
    with Client(url, token) as farm, DrivenEpisode(farm, EpisodeRequest(task="made-up/t0")) as episode:
        episode.begin()
        episode.act(Bash(command="ls"))
        farm.step(episode.view.id, StepRequest(step_id="another's", action=Bash(command="ls")))
        with pytest.raises(Conflict, match="has 3 steps where its trainer took 2"):
            episode.act(Bash(command="ls"))


async def test_a_step_behind_others_than_the_callers_own_is_told(site: Site) -> None:
    await asyncio.to_thread(driven_by_two, site.url, site.token)


async def test_a_refusal_is_told_and_not_repeated(site: Site) -> None:
    async with AsyncClient(site.url, "wrong") as farm:
        with pytest.raises(ServerProblem) as refused:
            await farm.submit(ASKED)
    assert (refused.value.status, refused.value.cause, refused.value.retryable) == (401, "usage", False)
    assert "`envfarm serve` prints the operator's token" in "".join(traceback.format_exception(refused.value))


async def test_an_address_with_the_apis_own_prefix_is_told_as_such(site: Site) -> None:
    async with AsyncClient(f"{site.url}/v1", site.token) as farm:
        with pytest.raises(ServerProblem, match="nothing is at /v1/v1/policies/default") as refused:
            await farm.policy()
    assert "without `/v1`" in refused.value.hint


async def test_a_token_is_sent_without_its_line_break_and_never_told(site: Site) -> None:
    async with AsyncClient(site.url, f"{site.token}\n") as farm:
        assert (await farm.policy()).version == 0
    with pytest.raises(ServerProblem) as refused:
        AsyncClient(site.url, "secret\nX-Other: 1")
    assert "secret" not in str(refused.value)


async def test_tls_where_the_farm_speaks_none_is_not_tried_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncClient(site.url.replace("http:", "https:"), site.token) as farm:
        with pytest.raises(ServerProblem, match="WRONG_VERSION_NUMBER"):
            await farm.policy()
    assert not caplog.records


@pytest.mark.parametrize(
    ("call", "what"),
    [
        ({"prompt_ids": (-1, 2), "completion_ids": (3,)}, "a token id is -1"),
        ({"prompt_ids": (1,), "completion_ids": (3, -7)}, "a token id is -7"),
        ({"prompt_ids": (1,), "completion_ids": (3,), "logprobs": (5.0,)}, "a logprob is 5"),
        ({"prompt_ids": (1,), "completion_ids": (3,), "logprobs": ()}, "0 logprobs for 1"),
    ],
)
def test_tokens_that_cannot_be_are_no_step(call: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        StepRequest(step_id="1", action=Bash(command="ls"), call=ModelCall.model_validate(call))
    possible = ModelCall(prompt_ids=(0,), completion_ids=(0,), logprobs=(0.0,))
    assert StepRequest(step_id="1", action=Bash(command="ls"), call=possible).call == possible


async def test_a_client_that_tries_again_says_why(caplog: pytest.LogCaptureFixture) -> None:
    async with AsyncClient("http://127.0.0.1:9", "t", retry=QUICK) as farm:
        with pytest.raises(ServerProblem, match="refused"):
            await farm.policy()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("envfarm.client")]
    assert [text.rpartition("(")[2] for text in told] == ["2 of 3)", "3 of 3)"]
    assert all("Connection refused" in text for text in told)


async def test_a_cancelled_call_ends_at_once_and_harms_nothing(site: Site) -> None:
    async with AsyncClient(site.url, site.token, at_once=1) as farm:
        waiting = asyncio.create_task(farm.lease(LeaseRequest(wait_s=60.0)))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert (await farm.policy()).version == 0


async def test_bad_days_are_sat_out() -> None:
    script = [Line(status=503), Line(hang_up=True), Line(body=STATE)]
    async with chat_server(script) as server, AsyncClient(server.base_url.removesuffix("/v1"), "t", retry=QUICK) as farm:
        assert (await farm.new_version(7)).version == 7
    async with chat_server([Line(hang_up=True)]) as server, AsyncClient(server.base_url, "t", retry=QUICK) as farm:
        with pytest.raises(ServerProblem, match="v1/policies"):
            await farm.new_version(7)
    async with chat_server([Line(body=b"no json")]) as server, AsyncClient(server.base_url, "t", retry=QUICK) as farm:
        with pytest.raises(ServerProblem, match="cannot be read"):
            await farm.new_version(7)


@pytest.mark.parametrize("missing", [1, len(json.dumps(STATE))])
def test_an_answer_that_is_cut_short_is_asked_for_again(missing: int) -> None:
    with serving(ScriptedServer()) as server, Client(server.url, "t", retry=QUICK) as farm:
        server.on("/v1/policies/default", Reply(body=STATE, cut=missing), Reply(body=STATE))
        assert farm.policy().version == 7
        assert len(server.asked) == 2


def test_a_stream_is_asked_for_again_until_nothing_is_to_come() -> None:
    with serving(ScriptedServer()) as server, Client(server.url, "t", retry=QUICK) as farm:
        server.on("/v1/rollouts/r/events", Reply(raw=b""), Reply(raw=b": alive\n\n"), Reply(status=204, raw=b""))
        assert list(farm.events(RunId("r"))) == []
        assert len(server.asked) == 3


def test_retry_after_is_obeyed_and_waits_grow() -> None:
    doing = exchange(Call("GET", "/x", bytes), RetryPolicy(tries=4, first_wait_s=1.0, longest_wait_s=20.0))
    assert isinstance(next(doing), Send)
    assert doing.send(Answer(429, {"retry-after": "7"}, b"{}")) == Sleep(7.0)
    assert isinstance(doing.send(None), Send)
    assert doing.send(Answer(503, {"retry-after": "900"}, b"{}")) == Sleep(20.0)
    assert isinstance(doing.send(None), Send)
    grown = doing.send(ConnectionError("gone"))
    assert isinstance(grown, Sleep)
    assert 2.0 <= grown.seconds <= 4.0
    assert isinstance(doing.send(None), Send)
    with pytest.raises(StopIteration) as end:
        doing.send(Answer(200, {}, b"done"))
    assert end.value.value == b"done"


def test_events_survive_broken_connections_without_loss_or_doubles() -> None:
    feed = EventFeed(RunId("r"), 0)

    def lines(number: int, kind: str) -> list[str]:
        return [f"id: {number}", f"event: {kind}", f'data: {{"number": {number}, "at": 1.0, "kind": "{kind}", "body": {{}}}}', ""]

    sent = [*lines(1, "accepted"), ": alive", "", *lines(2, "started")[:3]]
    assert [e.number for line in sent if (e := feed.line(line))] == [1]
    feed.broken()
    assert feed.call().headers["Last-Event-ID"] == "1"
    sent = [*lines(1, "accepted"), *lines(2, "started"), *lines(3, "done")]
    assert [e.number for line in sent if (e := feed.line(line))] == [2, 3]
    assert feed.over


def test_a_stream_of_comments_is_asked_for_again_and_no_stream_is_the_end() -> None:
    feed = EventFeed(RunId("r"), 7)
    for text in (": alive", ""):
        assert feed.line(text) is None
    feed.ended()
    assert not feed.over
    feed.ended()
    assert feed.over


def test_the_client_needs_the_core_alone() -> None:
    heavy = ("sqlalchemy", "httpx", "rich", "click", "fastapi", "uvicorn", "zstandard")
    code = f"import sys, envfarm.client; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"
