"""TRL's rollouts against a service, without TRL: a made-up trainer samples. The real one is in `tests/peers`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from envfarm.client import Budgets, Client, ModelCall, StepRequest
from envfarm.core.action import Action, Bash, Finish
from envfarm.core.errors import PolicyError
from envfarm.core.ids import EpisodeId
from envfarm.core.observation import Observation
from envfarm.integrations.trl import Completion, FarmRollouts
from tests.integration.api.conftest import Site

TRAINER = SimpleNamespace(processing_class=SimpleNamespace(pad_token_id=0), state=SimpleNamespace(global_step=7))
END = 9


class Numbers:
    """A dialogue whose tokens are made up: every observation is one, too."""

    def opening(self, instruction: str) -> Sequence[int]:
        return [1, len(instruction)]

    def reply(self, observation: Observation) -> Sequence[int]:
        return [2 if observation.exit_code is not None else END]

    def action(self, completion: Sequence[int]) -> Action:
        return Finish() if completion[-1] == END else Bash(command=str(completion[-1]))


@dataclass
class Sampler:
    """Two tokens each time; ends in the third turn."""

    batches: list[int] = field(default_factory=list)
    given: int = 100

    def __call__(self, trainer: Any, prompts: Sequence[tuple[int, ...]]) -> Sequence[Completion]:
        assert trainer is TRAINER
        self.batches.append(len(prompts))
        return [self._one(prompt) for prompt in prompts]

    def _one(self, prompt: tuple[int, ...]) -> Completion:
        self.given += 1
        return Completion((self.given, END if len(prompt) >= 8 else 3), (-0.5, -self.given / 1000))


async def test_a_batch_larger_than_the_farm_plays_at_once_comes_to_its_end(site: Site) -> None:
    with Client(site.url, site.token) as farm:
        rollouts = FarmRollouts(farm=farm, dialogue=Numbers(), sample=Sampler())
        told = await asyncio.to_thread(rollouts, ["made-up/t0"] * 20, TRAINER)
        first = await asyncio.to_thread(farm.trajectory, EpisodeId(told["episode"][0]))
    assert site.farm.capacity.episodes < 20
    assert told["outcome"] == ["scored"] * 20
    assert all(mask == [1, 1, 0, 1, 1, 0, 1, 1] for mask in told["env_mask"])
    sampled = [ids[n] for ids in told["completion_ids"] for n in (0, 3, 6)]
    assert sorted(sampled) == list(range(101, 161)), "every completion is there, once"
    assert all(p[0] == -0.5 and p[1] == -ids[0] / 1000 for p, ids in zip(told["logprobs"], told["completion_ids"], strict=True))
    assert {s.call.weight_version for s in first.steps if s.call is not None} == {"7"}


async def test_what_came_to_nothing_counts_nowhere_and_what_grew_too_long_is_graded(site: Site) -> None:
    with Client(site.url, site.token) as farm:

        class CallingOff(Numbers):
            def action(self, completion: Sequence[int]) -> Action:
                live = [e for e in site.farm.played if site.farm.seats.of(e)]
                farm.close_episode(live[0])
                return super().action(completion)

        rollouts = FarmRollouts(farm=farm, dialogue=CallingOff(), sample=Sampler(), again=1)
        (row,) = zip(*(await asyncio.to_thread(rollouts, ["made-up/t0"], TRAINER)).values(), strict=True)
        assert (row[3].count(1), row[4], row[5]) == (0, None, "invalid")
        assert len(site.farm.played) == 2, "it was played again"
        rollouts = FarmRollouts(farm=farm, dialogue=Numbers(), sample=Sampler(), prompt_tokens=5, budgets=Budgets(turns=9))
        (row,) = zip(*(await asyncio.to_thread(rollouts, ["made-up/t0"], TRAINER)).values(), strict=True)
        assert (row[3].count(1), row[5]) == (4, "scored")


async def test_a_record_of_more_than_the_conversation_that_was_played_is_refused(site: Site) -> None:
    with Client(site.url, site.token) as farm:

        class Meddled(Numbers):
            def reply(self, observation: Observation) -> Sequence[int]:
                call = ModelCall(prompt_ids=(7,), completion_ids=(8,), logprobs=(-0.5,))
                farm.step(site.farm.played[-1], StepRequest(step_id="another's", action=Bash(command="ls"), call=call))
                return super().reply(observation)

        rollouts = FarmRollouts(farm=farm, dialogue=Meddled(), sample=Sampler(), prompt_tokens=4)
        with pytest.raises(PolicyError, match="has 2 conversations where one was played"):
            await asyncio.to_thread(rollouts, ["made-up/t0"], TRAINER)


async def test_a_policy_that_fails_ends_the_batch_and_leaves_no_box(site: Site) -> None:
    def failing(trainer: Any, prompts: Sequence[tuple[int, ...]]) -> Sequence[Completion]:
        raise MemoryError("out of it")

    with Client(site.url, site.token) as farm:
        rollouts = FarmRollouts(farm=farm, dialogue=Numbers(), sample=failing)
        with pytest.raises(MemoryError, match="out of it"):
            await asyncio.to_thread(rollouts, ["made-up/t0"] * 20, TRAINER)
    listed = (await site.http.get("/v1/episodes", params={"limit": 50})).json()["items"]
    assert {episode["state"] for episode in listed} == {"cancelled"}
