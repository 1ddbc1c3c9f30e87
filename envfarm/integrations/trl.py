"""TRL's GRPO on a farm: `FarmRollouts` is its `rollout_func`, `farm_reward` its reward function.

The trainer samples, the farm plays: each completion is an episode that is driven step by step, whose tokens, logprobs and policy version
go to the farm with each action. What TRL learns from is read back from the farm's trajectory, and nothing is tokenised twice. Needs TRL
1.16 or newer in the trainer's process, and `envfarm` with its core alone. Must not look at a farm but through its client.
"""

import importlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from envfarm.client import Budgets, Client, EpisodeRequest, ServerProblem, StepRequest, TaskSelector
from envfarm.core.action import Action, Malformed
from envfarm.core.errors import PolicyError
from envfarm.core.observation import Observation
from envfarm.core.outcome import Invalid
from envfarm.core.rollout import EpisodeView
from envfarm.core.trajectory import ModelCall, Step
from envfarm.integrations.outcomes import CensoredReward, partial_or_zero, reward_of

CONFLICT = 409
_ACTION: TypeAdapter[Action] = TypeAdapter(Action)


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy sampled for one prompt."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """One per id, under the distribution that it was drawn from."""


Sample = Callable[[Any, Sequence[tuple[int, ...]]], Sequence[Completion]]
"""The trainer and one prompt per live episode, to one completion each."""


class Dialogue(Protocol):
    """How a conversation with the policy is written in tokens. Called once per text: ids are joined, never decoded and encoded again."""

    def opening(self, instruction: str) -> Sequence[int]:
        """The first prompt."""
        ...

    def reply(self, observation: Observation) -> Sequence[int]:
        """What stands between a completion and the next one."""
        ...

    def action(self, completion: Sequence[int]) -> Action:
        """What the policy wants done; `Malformed` where it cannot be told."""
        ...


class PlainText:
    """The dialogue of a policy without a chat template: texts as they are, and an action as a JSON object with its `tool`."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def opening(self, instruction: str) -> Sequence[int]:
        """See `Dialogue`."""
        return self._ids(instruction)

    def reply(self, observation: Observation) -> Sequence[int]:
        """See `Dialogue`."""
        return self._ids(f"\n{observation.text}\n")

    def action(self, completion: Sequence[int]) -> Action:
        """See `Dialogue`."""
        text: str = self._tokenizer.decode(completion, skip_special_tokens=True)
        try:
            return _ACTION.validate_python(json.loads(text))
        except (ValueError, ValidationError) as e:
            return Malformed(raw=text, problem=f"no action in JSON: {e}"[:500])

    def _ids(self, text: str) -> Sequence[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


@dataclass(frozen=True, slots=True)
class Row:
    """An episode as a learner wants it: three columns of one length behind a prompt."""

    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    """All that follows the first prompt: what the policy sampled, and the farm's replies in between."""
    logprobs: tuple[float, ...] = ()
    """0.0 where the mask is 0."""
    env_mask: tuple[int, ...] = ()
    """1 where the policy sampled the token."""


def row_of(steps: Sequence[Step]) -> Row:
    """A trajectory's model calls as one row.

    Raises `PolicyError` where a call has no ids, or a prompt does not go on from all the tokens before it.
    """
    prompt: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    mask: tuple[int, ...] = ()
    calls = [step.call for step in steps if step.call is not None and step.call.completion_ids is not None]
    for n, call in enumerate(calls):
        if call.prompt_ids is None or call.completion_ids is None or call.logprobs is None:
            raise PolicyError(f"the call {call.call_id!r} has no token ids")
        prompt = prompt if n else call.prompt_ids
        before = prompt + ids
        if call.prompt_ids[: len(before)] != before:
            raise PolicyError(f"the prompt of the call {call.call_id!r} does not go on from the tokens before it")
        added = call.prompt_ids[len(before) :]
        ids += added + call.completion_ids
        logprobs += (0.0,) * len(added) + call.logprobs
        mask += (0,) * len(added) + (1,) * len(call.completion_ids)
    return Row(prompt, ids, logprobs, mask)


@dataclass(slots=True)
class _Playing:
    """An episode under way."""

    view: EpisodeView
    ids: tuple[int, ...] = ()
    """Everything so far: the next prompt."""
    turns: int = 0

    @property
    def over(self) -> bool:
        return self.view.state == "ended"


def sample_with_model(trainer: Any, prompts: Sequence[tuple[int, ...]]) -> Sequence[Completion]:
    """Sample from the model that is being trained, by its `generate` and the trainer's own generation settings."""
    torch = importlib.import_module("torch")
    tokenizer, device = trainer.processing_class, trainer.accelerator.device
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    model = trainer.accelerator.unwrap_model(trainer.model)
    with torch.no_grad():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=trainer.generation_config,
            return_dict_in_generate=True,
            output_scores=True,
        )
    drawn = out.sequences[:, width:]
    scores = torch.stack(out.scores, dim=1).float().log_softmax(-1)
    logprobs = scores.gather(-1, drawn.unsqueeze(-1)).squeeze(-1)
    return [_until(eos, row, values) for row, values in zip(drawn.tolist(), logprobs.tolist(), strict=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FarmRollouts:
    """A `rollout_func` for `GRPOTrainer`. The data set's prompts are tasks' names or digests: see `task_rows`.

    Each prompt of a batch becomes one episode; TRL gives each `num_generations` times, and makes its groups of them. They are played side
    by side, a turn at a time. One that comes out `Invalid` is played again as often as `again` says, and then has no reward: TRL leaves it
    out of the group's mean and gives it no advantage.
    """

    farm: Client
    dialogue: Dialogue
    sample: Sample = sample_with_model
    budgets: Budgets = field(default_factory=Budgets)
    sandbox: str = "local"
    censored: CensoredReward = partial_or_zero
    again: int = 1
    model: str = "policy"
    at_once: int = 32
    """Calls to the farm at a time."""

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        """See TRL's `RolloutFunc`: one row per prompt, with `env_mask`, and `farm_reward`, `outcome` and `episode` for reward functions."""
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="envfarm-trl") as threads:
            ended = self._play(prompts, trainer, threads)
            for _ in range(self.again):
                lost = [n for n, view in enumerate(ended) if isinstance(view.outcome, Invalid)]
                for n, view in zip(lost, self._play([prompts[n] for n in lost], trainer, threads), strict=True):
                    ended[n] = view
            rows = list(threads.map(self._row, ended))
        nothing = Row((trainer.processing_class.pad_token_id,), (trainer.processing_class.pad_token_id,), (0.0,), (0,))
        rows = [row if row.completion_ids else nothing for row in rows]  # TRL has no word for an episode that never had a turn
        return {
            "prompt_ids": [list(row.prompt_ids) for row in rows],
            "completion_ids": [list(row.completion_ids) for row in rows],
            "logprobs": [list(row.logprobs) for row in rows],
            "env_mask": [list(row.env_mask) for row in rows],
            "farm_reward": [reward_of(view.outcome, self.censored) for view in ended],
            "outcome": [view.outcome.kind if view.outcome is not None else "" for view in ended],
            "episode": [str(view.id) for view in ended],
        }

    def _play(self, tasks: Sequence[str], trainer: Any, threads: ThreadPoolExecutor) -> list[EpisodeView]:
        """Play an episode on each task until all are over."""
        playing = list(threads.map(self._begin, tasks))
        version = str(trainer.state.global_step)
        while live := [one for one in playing if not one.over]:
            completions = self.sample(trainer, [one.ids for one in live])
            list(threads.map(lambda one, completion: self._turn(one, completion, version), live, completions))
        return [one.view for one in playing]

    def _begin(self, task: str) -> _Playing:
        view = self._settled(self.farm.create_episode(EpisodeRequest(task=task, budgets=self.budgets, sandbox=self.sandbox)))
        return _Playing(view, () if view.state == "ended" else tuple(self.dialogue.opening(view.instruction)))

    def _turn(self, one: _Playing, completion: Completion, version: str) -> None:
        call = ModelCall(
            model=self.model,
            prompt_tokens=len(one.ids),
            completion_tokens=len(completion.ids),
            prompt_ids=one.ids,
            completion_ids=completion.ids,
            logprobs=completion.logprobs,
            weight_version=version,
        )
        step = StepRequest(step_id=str(one.turns), action=self.dialogue.action(completion.ids), call=call)
        try:
            seen = self.farm.step(one.view.id, step)
        except ServerProblem as e:
            one.view = self._settled(one.view)
            if e.status == CONFLICT and one.over:  # it ended while the policy thought
                return
            raise
        one.view, one.turns = self._settled(seen.episode), one.turns + 1
        one.ids += completion.ids
        if not one.over and seen.observation is not None:
            one.ids += tuple(self.dialogue.reply(seen.observation))

    def _settled(self, view: EpisodeView) -> EpisodeView:
        """The episode when it wants an action or is over: it waits for a box, or its last turn's grading runs."""
        while (view := self.farm.episode(view.id, wait_s=30.0)).state not in {"ready", "ended"}:
            pass
        return view

    def _row(self, view: EpisodeView) -> Row:
        return row_of(self.farm.trajectory(view.id).steps) if view.turns else Row()


def farm_reward(*, farm_reward: Sequence[float | None], **_: Any) -> list[float | None]:
    """TRL's reward function: what the farm said of each episode; None, which TRL leaves out, where it said nothing."""
    return list(farm_reward)


def task_rows(farm: Client, wanted: TaskSelector | None = None) -> list[dict[str, str]]:
    """Rows of a data set for `GRPOTrainer`: a task's digest as the prompt. The policy reads the task's instruction in its place."""
    return [{"prompt": task.digest} for task in farm.tasks(wanted)]


def _until(eos: int | None, ids: Sequence[int], logprobs: Sequence[float]) -> Completion:
    """A completion up to its end token; `generate` pads behind it."""
    end = ids.index(eos) + 1 if eos is not None and eos in ids else len(ids)
    return Completion(tuple(ids[:end]), tuple(logprobs[:end]))
