"""TRL's GRPO on a farm: `FarmRollouts` is its `rollout_func`, `farm_reward` its reward function.

The trainer samples, the farm runs the episodes: each completion is an episode driven step by step, and each action is sent with its tokens,
logprobs and policy version. TRL learns from the farm's trajectory, and nothing is tokenized twice. Needs TRL 1.16 or newer in the trainer's
process, and only the core of `envfarm`. It must access the farm through the client only.
"""

import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from envfarm.client import Budgets, Client, EpisodeRequest, TaskSelector, TrainingRow
from envfarm.core.action import Action
from envfarm.core.errors import PolicyError
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import EpisodeView
from envfarm.integrations.driving import DrivenEpisode, how_to_act, read_action
from envfarm.integrations.outcomes import CensoredReward, partial_or_zero, reward_of


@dataclass(frozen=True, slots=True)
class Completion:
    """The policy's sample for one prompt."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """One per id, under the distribution that it was sampled from."""


Sample = Callable[[Any, Sequence[tuple[int, ...]]], Sequence[Completion]]
"""From the trainer and the prompts of some episodes to one completion each. Called in the trainer's thread only."""


class Dialogue(Protocol):
    """How a conversation with the policy is written in tokens. Called once per text: ids are joined, never decoded and encoded again."""

    def opening(self, instruction: str) -> Sequence[int]:
        """The first prompt."""
        ...

    def reply(self, observation: Observation) -> Sequence[int]:
        """The tokens between a completion and the next one."""
        ...

    def action(self, completion: Sequence[int]) -> Action:
        """The action of a completion; `Malformed` if it is invalid."""
        ...


class PlainText:
    """A dialogue for a policy without a chat template: plain texts, and actions in JSON, as the first prompt requests."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def opening(self, instruction: str) -> Sequence[int]:
        """See `Dialogue`."""
        return self._ids(f"{instruction}\n\n{how_to_act()}\n")

    def reply(self, observation: Observation) -> Sequence[int]:
        """See `Dialogue`."""
        return self._ids(f"\n{observation.text}\n")

    def action(self, completion: Sequence[int]) -> Action:
        """See `Dialogue`."""
        return read_action(self._tokenizer.decode(completion, skip_special_tokens=True))

    def _ids(self, text: str) -> Sequence[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def sample_with_model(trainer: Any, prompts: Sequence[tuple[int, ...]]) -> Sequence[Completion]:
    """Sample from the model in training, with its `generate` and the trainer's generation settings."""
    torch = importlib.import_module("torch")
    tokenizer, device = trainer.processing_class, trainer.accelerator.device
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    model = trainer.accelerator.unwrap_model(trainer.model)
    settings = copy(trainer.generation_config)
    settings.return_dict_in_generate = settings.output_scores = True
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=settings)
    drawn = out.sequences[:, width:]
    scores = torch.stack(out.scores, dim=1).float().log_softmax(-1)
    logprobs = scores.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    return [_until(eos, row, values) for row, values in zip(drawn.tolist(), logprobs.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRollouts:
    """A `rollout_func` for `GRPOTrainer`. The data set's prompts are names or digests of tasks: see `task_rows`.

    Each prompt of a batch becomes one episode; TRL repeats each `num_generations` times and groups them. Episodes proceed independently
    once they have a box; those that need a completion while the policy samples are in the next batch. An `Invalid` episode is run again up
    to `again` times; after that it has no reward, and none of its tokens count.
    """

    farm: Client
    dialogue: Dialogue
    sample: Sample = sample_with_model
    budgets: Budgets = field(default_factory=Budgets)
    sandbox: str = ""
    """The farm's own where empty."""
    censored: CensoredReward = partial_or_zero
    again: int = 1
    model: str = "policy"
    prompt_tokens: int = 32_768
    """The longest prompt of the policy. An episode whose conversation grows longer is graded as it is."""
    at_once: int = 64
    """Episodes requested at once; the farm may run fewer."""

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        """See TRL's `RolloutFunc`: one row per prompt, with `env_mask`, and `farm_reward`, `outcome` and `episode` for reward functions."""
        version, desk = str(trainer.state.global_step), _SampleQueue()
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="envfarm-trl") as threads:
            playing = [threads.submit(self._play, task, version, desk) for task in prompts]
            desk.serve(lambda batch: self.sample(trainer, batch), playing)
        ended = [one.result() for one in playing]
        rewards = [reward_of(view.outcome, self.censored) for view, _ in ended]
        pad = trainer.processing_class.pad_token_id
        # TRL cannot represent an episode without turns
        nothing = TrainingRow(ids=(pad, pad), mask=(0, 0), logprobs=(0.0, 0.0), segments=())
        rows = [row or nothing for _, row in ended]
        starts = [row.segments[0].start if row.segments else 1 for row in rows]
        masks = [row.mask if reward is not None else (0,) * len(row.mask) for row, reward in zip(rows, rewards, strict=True)]
        return {
            "prompt_ids": [list(row.ids[:start]) for row, start in zip(rows, starts, strict=True)],
            "completion_ids": [list(row.ids[start:]) for row, start in zip(rows, starts, strict=True)],
            "logprobs": [list(row.logprobs[start:]) for row, start in zip(rows, starts, strict=True)],
            "env_mask": [list(mask[start:]) for mask, start in zip(masks, starts, strict=True)],
            "farm_reward": rewards,
            "outcome": [view.outcome.kind if view.outcome is not None else "" for view, _ in ended],
            "episode": [str(view.id) for view, _ in ended],
        }

    def _play(self, task: str, version: str, desk: "_SampleQueue") -> tuple[EpisodeView, TrainingRow | None]:
        """Run an episode to its end, again if it is invalid, and get its tokens from the farm.

        Raises `PolicyError` if the record is not of the one conversation that was played.
        """
        view, again = self._play_once(task, version, desk), self.again
        while isinstance(view.outcome, Invalid) and again > 0:
            view, again = self._play_once(task, version, desk), again - 1
        rows = self.farm.trajectory(view.id).rows() if view.turns else ()
        if len(rows) > 1:
            raise PolicyError(f"the record of {view.id} has {len(rows)} conversations where one was played")
        return view, rows[0] if rows else None

    def _play_once(self, task: str, version: str, desk: "_SampleQueue") -> EpisodeView:
        with DrivenEpisode(self.farm, EpisodeRequest(task=task, budgets=self.budgets, sandbox=self.sandbox)) as episode:
            episode.begin()
            ids = new = tuple(self.dialogue.opening(episode.view.instruction))
            while not episode.over:
                if len(ids) > self.prompt_tokens:
                    episode.grade()
                    break
                sampled = desk.ask(ids)
                call = ModelCall(
                    model=self.model,
                    prompt_tokens=len(ids),
                    completion_tokens=len(sampled.ids),
                    prompt_ids=new,
                    continues=len(new) < len(ids),
                    completion_ids=sampled.ids,
                    logprobs=sampled.logprobs,
                    weight_version=version,
                )
                seen = episode.act(self.dialogue.action(sampled.ids), call)
                new = tuple(self.dialogue.reply(seen)) if seen is not None else ()
                ids += sampled.ids + new
        return episode.view


class _SampleQueue:
    """Episodes, each in its own thread, request completions here; the trainer's thread samples for all waiting ones."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[tuple[tuple[int, ...], Future[Completion]] | None] = SimpleQueue()

    def ask(self, prompt: tuple[int, ...]) -> Completion:
        """Wait for a completion. Raises `CancelledError` if sampling has ended."""
        answer: Future[Completion] = Future()
        self._asked.put((prompt, answer))
        return answer.result()

    def serve(self, sample: Callable[[Sequence[tuple[int, ...]]], Sequence[Completion]], episodes: Sequence[Future[Any]]) -> None:
        """Sample until all episodes are over, or until one of them or sampling raises. Waiting requests are then cancelled."""
        for episode in episodes:
            episode.add_done_callback(lambda _: self._asked.put(None))
        batch: list[tuple[tuple[int, ...], Future[Completion]]] = []
        try:
            while not all(episode.done() and episode.result() for episode in episodes):
                if batch := self._waiting():
                    for (_, answer), completion in zip(batch, sample([prompt for prompt, _ in batch]), strict=True):
                        answer.set_result(completion)
        finally:
            for episode in episodes:
                episode.cancel()
            while not all(episode.done() for episode in episodes):
                for _, answer in batch:
                    answer.cancel()
                batch = self._waiting()

    def _waiting(self) -> list[tuple[tuple[int, ...], Future[Completion]]]:
        """All waiting requests. Blocks until there is one, or until an episode is over."""
        asked = [self._asked.get()]
        while True:
            try:
                asked.append(self._asked.get_nowait())
            except Empty:
                return [one for one in asked if one is not None]


def farm_reward(*, farm_reward: Sequence[float | None], **_: Any) -> list[float | None]:
    """TRL's reward function: the farm's reward of each episode; None, which TRL excludes, if there is none."""
    return list(farm_reward)


def task_rows(farm: Client, wanted: TaskSelector | None = None) -> list[dict[str, str]]:
    """Rows of a data set for `GRPOTrainer`, with a task's digest as the prompt. The policy sees the task's instruction instead."""
    return [{"prompt": task.digest} for task in farm.tasks(wanted)]


def _until(eos: int | None, ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
    """A completion up to its end token, without the padding of `generate`."""
    end = ids.index(eos) + 1 if eos is not None and eos in ids else len(ids)
    return Completion(tuple(ids[:end]), tuple(logprobs[:end]))
