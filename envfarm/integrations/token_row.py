"""A driven episode's trajectory as one row of tokens for a learner. Pure; shared by the adapters."""

from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.core.action import Finish
from envfarm.core.errors import PolicyError
from envfarm.core.trajectory import Step


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Three columns of equal length that follow a prompt."""

    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    """All tokens after the first prompt: those that the policy sampled, and the farm's replies between them."""
    logprobs: tuple[float, ...] = ()
    """0.0 if the mask is 0."""
    mask: tuple[int, ...] = ()
    """1 for tokens that the policy sampled."""


def token_row(steps: Sequence[Step]) -> TokenRow:
    """Join the model calls of an episode's steps.

    Raises `PolicyError` if a call has no ids or logprobs, if a prompt does not begin with all tokens before it, or if the steps are not
    the trainer's own from its first on (`DrivenEpisode` numbers them).
    """
    prompt: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    mask: tuple[int, ...] = ()
    for n, step in enumerate(steps):
        call = step.call
        if isinstance(step.action, Finish) and (call is None or call.completion_ids is None):
            continue  # requested by the trainer (`grade`), not sampled by the policy
        if call is None or call.prompt_ids is None or call.completion_ids is None or call.logprobs is None:
            raise PolicyError(f"step {step.index} has no token ids and logprobs")
        if call.call_id != str(step.index):
            raise PolicyError(f"step {step.index} is the trainer's step {call.call_id!r}: the record is not of the episode that it played")
        if len(call.logprobs) != len(call.completion_ids):
            raise PolicyError(f"step {step.index} has {len(call.completion_ids)} tokens and {len(call.logprobs)} logprobs")
        prompt = prompt if n else call.prompt_ids
        before = () if call.continues and n else prompt + ids
        if (call.continues and not n) or call.prompt_ids[: len(before)] != before:
            raise PolicyError(f"the prompt of step {step.index} does not begin with the tokens of the steps before it")
        added = call.prompt_ids[len(before) :]
        ids += added + call.completion_ids
        logprobs += (0.0,) * len(added) + call.logprobs
        mask += (0,) * len(added) + (1,) * len(call.completion_ids)
    return TokenRow(prompt, ids, logprobs, mask)
