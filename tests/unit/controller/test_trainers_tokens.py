"""What a step-driven episode keeps of its trainer's tokens: each once, and so many."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import ValidationError

from envfarm.controller.step_episodes import Turns
from envfarm.core.action import Bash, Finish
from envfarm.core.errors import Conflict, UsageError
from envfarm.core.ids import TenantId
from envfarm.core.model_call import ModelCall
from envfarm.core.rollout import EpisodeRequest, StepRequest
from envfarm.testing.small_service import A, SmallService

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def playing(farm: SmallService) -> AsyncIterator[SmallService]:
    await farm.open(tasks=1)
    async with farm.playing():
        yield farm
    await farm.close()


def step(n: int, call: ModelCall | None = None) -> StepRequest:
    return StepRequest(step_id=str(n), action=Bash(command="ls"), call=call)


def call(*prompt: int, completion: tuple[int, ...] = (), continues: bool = False) -> ModelCall:
    return ModelCall(prompt_ids=prompt, completion_ids=completion, continues=continues)


async def test_each_token_is_kept_once_in_whichever_form_it_was_sent(tmp_path: Path) -> None:
    async with playing(SmallService(tmp_path)) as farm:
        episode = (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=30.0)).id
        with pytest.raises(UsageError, match="behind a step that has some"):
            await farm.steps.step(A, episode, step(0, call(1, continues=True)), wait_s=30.0)
        sent = [
            call(1, 2, completion=(3,)),
            call(1, 2, 3, 4, completion=(5, 6)),
            call(7, completion=(8,), continues=True),
            call(1, 2, 3, 4, 5, 6, 7, 8, 9, completion=(10,)),
            call(1, 9),
        ]
        for n, one in enumerate(sent):
            assert (await farm.steps.step(A, episode, step(n, one), wait_s=30.0)).done
        kept = [s.call for s in (await farm.trajectories.read(episode)).steps]
        assert [(c.prompt_ids, c.continues) for c in kept if c] == [
            ((1, 2), False),
            ((4,), True),
            ((7,), True),
            ((9,), True),
            ((1, 9), False),
        ]


async def test_an_episode_keeps_so_much_of_its_trainer_and_is_graded_then(tmp_path: Path) -> None:
    async with playing(SmallService(tmp_path, sent_bytes=600)) as farm:
        episode = (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=30.0)).id
        assert (await farm.steps.step(A, episode, step(0, call(*range(1000))), wait_s=30.0)).done
        with pytest.raises(Conflict, match="have 600 bytes already"):
            await farm.steps.step(A, episode, step(1), wait_s=30.0)
        end = StepRequest(step_id="end", action=Finish())
        assert (await farm.steps.step(A, episode, end, wait_s=30.0)).episode.terminated


async def test_whoever_looks_at_an_ended_episode_or_repeats_a_step_reads_no_tokens(tmp_path: Path) -> None:
    async with playing(SmallService(tmp_path)) as farm:
        episode = (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=30.0)).id
        first = await farm.steps.step(A, episode, step(0, call(123456789)), wait_s=30.0)
        second = await farm.steps.step(A, episode, step(1), wait_s=30.0)
        await farm.steps.step(A, episode, StepRequest(step_id="end", action=Finish()), wait_s=30.0)
        path = farm.trajectories.path(episode)
        path.write_bytes(path.read_bytes().replace(b"123456789", b"not-JSON!"))
        view = await farm.steps.get(A, episode)
        assert (view.state, view.turns, view.instruction) == ("ended", 3, first.episode.instruction)
        assert (await farm.steps.step(A, episode, step(1), wait_s=30.0)).observation == second.observation
        with pytest.raises(Conflict, match="was another action"):
            await farm.steps.step(A, episode, StepRequest(step_id="1", action=Finish()), wait_s=30.0)
        with pytest.raises(Conflict, match="the episode is over"):
            await farm.steps.step(A, episode, step(2), wait_s=30.0)


async def test_a_step_that_is_sent_again_with_other_tokens_is_refused(tmp_path: Path) -> None:
    async with playing(SmallService(tmp_path)) as farm:
        episode = (await farm.steps.create(A, EpisodeRequest(task="made-up/t0"), key=None, wait_s=30.0)).id
        sampled, other = (ModelCall(prompt_ids=(1,), completion_ids=ids) for ids in ((3, 4), (7, 8)))
        assert (await farm.steps.step(A, episode, step(0, sampled), wait_s=30.0)).done
        for end in (False, True):
            if end:
                await farm.steps.step(A, episode, StepRequest(step_id="end", action=Finish()), wait_s=30.0)
            for same in (sampled, None):
                assert (await farm.steps.step(A, episode, step(0, same), wait_s=30.0)).done
            with pytest.raises(Conflict, match="other tokens were sent"):
                await farm.steps.step(A, episode, step(0, other), wait_s=30.0)


async def test_records_are_read_by_turns_and_who_is_cancelled_leaves() -> None:
    turns, reading, may_end = Turns(most=2), set[str](), asyncio.Event()

    async def read(name: str) -> None:
        async with turns.one(TenantId(name[0])):
            reading.add(name)
            try:
                await may_end.wait()
            finally:
                reading.remove(name)

    async def settled() -> set[str]:
        for _ in range(20):
            await asyncio.sleep(0)
        return reading.copy()

    calls = {name: asyncio.create_task(read(name)) for name in ("a0", "a1", "a2", "b0", "c0")}
    assert await settled() == {"a0", "b0"}
    calls["a0"].cancel()
    calls["a1"].cancel()
    assert await settled() == {"b0", "c0"}
    calls["b0"].cancel()
    assert await settled() == {"a2", "c0"}
    may_end.set()
    assert await settled() == set()


@pytest.mark.parametrize("logprobs", [(-1.0,), (-1.0, -0.5, -0.1)])
def test_logprobs_that_are_not_one_for_each_token_are_refused(logprobs: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match=f"{len(logprobs)} logprobs for 2 completion ids"):
        step(0, ModelCall(completion_ids=(1, 2), logprobs=logprobs))
