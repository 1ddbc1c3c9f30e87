"""GRPO by the real TRL on a random tiny model, for `test_trl.py`: run by an interpreter that has TRL.

    python -m tests.peers.trl_training URL TOKEN TASK STEPS

The tokenizer is made on the spot: the 256 bytes. The first of a turn's tokens picks among few edits. Says a JSON line per batch, after
it has compared what came back from the farm with what was sampled, id for id, and with what the model says of those tokens. Every seventh
episode is called off behind the farm's back, so that some are `Invalid`.
"""

import itertools
import json
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, set_seed
from trl import GRPOConfig, GRPOTrainer

from envfarm.client import Budgets, Client, StepRequest, TaskSelector
from envfarm.core.action import Action, Finish, Malformed, ReadFile, StrReplace
from envfarm.core.rollout import StepView
from envfarm.integrations.trl import Completion, FarmRollouts, PlainText, farm_reward, sample_with_model, task_rows

GROUP, GROUPS = 8, 2
EDITS = "+*/%&"
CHOICES: tuple[Action, ...] = (
    *(StrReplace(path="add.sh", old=" - ", new=f" {sign} ") for sign in EDITS),
    ReadFile(path="add.sh"),
    Finish(),
    Malformed(raw="?", problem="that is no edit"),
)
Call = tuple[tuple[int, ...], tuple[int, ...], tuple[float, ...]]


class Picks(PlainText):
    """A token names one of the choices."""

    def opening(self, instruction: str) -> Sequence[int]:
        return self._ids(instruction)

    def action(self, completion: Sequence[int]) -> Action:
        return CHOICES[completion[0] % len(CHOICES)]


class Spoiling(Client):
    """Calls off every seventh episode after its first turn."""

    def step(self, episode: str, step: StepRequest, *, wait_s: float = 30.0) -> StepView:
        seen = super().step(episode, step, wait_s=wait_s)
        if step.step_id == "0" and seen.episode.state != "ended" and next(_TURNS) % 7 == 0:
            self.close_episode(episode)
        return seen


_TURNS = itertools.count(1)


def tokenizer() -> PreTrainedTokenizerFast:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_alone = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(letters)}, merges=[]))
    bytes_alone.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_alone.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytes_alone, pad_token="<pad>", eos_token="<eos>")


def model(words: int) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=words, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2
    )
    return Qwen2ForCausalLM(config)


def calls_of(row: dict[str, Any]) -> list[Call]:
    """What the policy sampled in a row: each stretch of model tokens, with all that stood before it."""
    found, at = [], 0
    for is_model, run in itertools.groupby(row["env_mask"]):
        end = at + len(list(run))
        if is_model:
            prompt = (*row["prompt_ids"], *row["completion_ids"][:at])
            found.append((prompt, tuple(row["completion_ids"][at:end]), tuple(row["logprobs"][at:end])))
        at = end
    return found


def furthest(trainer: Any, calls: Sequence[Call]) -> float:
    """The largest difference between a logprob that came back and the model's own, computed anew without padding."""
    worst = 0.0
    for prompt, completion, logprobs in calls:
        with torch.no_grad():
            logits = trainer.model(input_ids=torch.tensor([[*prompt, *completion]])).logits[0, len(prompt) - 1 : -1]
        own = (logits.float() / trainer.temperature).log_softmax(-1)
        worst = max([worst, *(abs(own[n, i].item() - p) for n, (i, p) in enumerate(zip(completion, logprobs, strict=True)))])
    return worst


class Compared:
    """The rollouts, with every token that TRL gets compared with what was sampled."""

    def __init__(self, farm: Client, dialogue: Picks) -> None:
        self._sampled: Counter[Call] = Counter()
        self._batches: list[int] = []
        self._rollouts = FarmRollouts(farm=farm, dialogue=dialogue, sample=self._sample, budgets=Budgets(turns=2), again=0)

    def _sample(self, trainer: Any, prompts: Sequence[tuple[int, ...]]) -> Sequence[Completion]:
        completions = sample_with_model(trainer, prompts)
        self._batches.append(len(prompts))
        self._sampled.update((p, c.ids, c.logprobs) for p, c in zip(prompts, completions, strict=True))
        return completions

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, list[Any]]:
        self._sampled.clear()
        self._batches.clear()
        told = self._rollouts(prompts, trainer)
        rows = [dict(zip(told, values, strict=True)) for values in zip(*told.values(), strict=True)]
        calls = [call for row in rows for call in calls_of(row)]
        missing = self._sampled - Counter(calls)  # what was sampled in episodes that came to nothing
        batch = {
            "step": trainer.state.global_step,
            "rewards": told["farm_reward"],
            "outcomes": told["outcome"],
            "prompts": list(prompts),
            "calls": len(calls),
            "foreign": (Counter(calls) - self._sampled).total(),
            "unsent": missing.total(),
            "model_tokens": sum(sum(row["env_mask"]) for row in rows),
            "farm_tokens": sum(row["env_mask"].count(0) for row in rows if 1 in row["env_mask"]),
            "counted": [1 in row["env_mask"] for row in rows],
            "batches": self._batches,
            "furthest": furthest(trainer, calls),
        }
        sys.stdout.write(f"batch {json.dumps(batch)}\n")
        return told


def main(url: str, token: str, task: str, steps: int) -> None:
    set_seed(1)
    words = tokenizer()
    config = GRPOConfig(
        output_dir="/tmp/trl",
        per_device_train_batch_size=GROUP * GROUPS,
        num_generations=GROUP,
        max_completion_length=2,  # tokens per turn; the first one picks
        max_steps=steps,
        learning_rate=2e-2,
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    with Spoiling(url, token) as farm:
        trainer = GRPOTrainer(
            model=model(len(words)),
            reward_funcs=farm_reward,
            args=config,
            train_dataset=Dataset.from_list(task_rows(farm, TaskSelector(names=(task,))) * 64),
            processing_class=words,
            rollout_func=Compared(farm, Picks(words)),
        )
        before = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
    moved = max(float((a - b.detach()).abs().max()) for a, b in zip(before, trainer.model.parameters(), strict=True))
    gradients = [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry]
    seen = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    sys.stdout.write(
        f"trained {json.dumps({'steps': trainer.state.global_step, 'moved': moved, 'gradients': gradients, 'rewards': seen})}\n"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
