"""A driven episode's trajectory as the one row of tokens that learners take. Pure; for the adapters beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.core.action import Finish
from envfarm.core.errors import PolicyError
from envfarm.core.trajectory import Step


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Three columns of one length behind a prompt."""

    prompt_ids: tuple[int, ...] = ()
    completion_ids: tuple[int, ...] = ()
    """All that follows the first prompt: what the policy sampled, and the farm's replies in between."""
    logprobs: tuple[float, ...] = ()
    """0.0 where the mask is 0."""
    mask: tuple[int, ...] = ()
    """1 where the policy sampled the token."""


def token_row(steps: Sequence[Step]) -> TokenRow:
    """The model calls of an episode's steps, joined.

    Raises `PolicyError` where a call has no ids or logprobs, or a prompt does not go on from all the tokens before it.
    """
    prompt: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    mask: tuple[int, ...] = ()
    for n, step in enumerate(steps):
        call = step.call
        if isinstance(step.action, Finish) and (call is None or call.completion_ids is None):
            continue  # it was asked to be graded as it stood: nobody sampled that
        if call is None or call.prompt_ids is None or call.completion_ids is None or call.logprobs is None:
            raise PolicyError(f"step {step.index} came without the tokens behind it")
        if len(call.logprobs) != len(call.completion_ids):
            raise PolicyError(f"step {step.index} has {len(call.completion_ids)} tokens and {len(call.logprobs)} logprobs")
        prompt = prompt if n else call.prompt_ids
        before = prompt + ids
        if call.prompt_ids[: len(before)] != before:
            raise PolicyError(f"the prompt of step {step.index} does not go on from the tokens before it")
        added = call.prompt_ids[len(before) :]
        ids += added + call.completion_ids
        logprobs += (0.0,) * len(added) + call.logprobs
        mask += (0,) * len(added) + (1,) * len(call.completion_ids)
    return TokenRow(prompt, ids, logprobs, mask)
