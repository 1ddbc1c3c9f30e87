"""Drive a group of episodes step by step, keep the model's tokens with the steps, and read back what a learner trains on:

python examples/drive_steps.py URL TOKEN TASK
"""

import sys

from envfarm.client import Bash, Client, Finish, ModelCall, PolicySpec, RolloutRequest, StepRequest, TaskSelector
from envfarm.integrations.token_row import token_row


def sample(prompt_ids: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Your model: the ids that it samples, and their logprobs."""
    return (len(prompt_ids) % 97, 7), (-0.5, -0.25)


with Client(sys.argv[1], sys.argv[2]) as farm:
    group = farm.submit(RolloutRequest(tasks=TaskSelector(names=(sys.argv[3],)), group_size=4, policy=PolicySpec(name="trainer")))
    for one in farm.episodes(group.id):
        while (view := farm.episode(one.id, wait_s=30.0)).state == "queued":  # it has no box yet
            pass
        prompt_ids = tuple(view.instruction.encode())  # your tokenizer
        for number, action in enumerate((Bash(command="ls"), Finish())):  # your reading of what was sampled
            ids, logprobs = sample(prompt_ids)
            call = ModelCall(prompt_ids=prompt_ids, completion_ids=ids, logprobs=logprobs)
            step = farm.step(one.id, StepRequest(step_id=str(number), action=action, call=call))
            prompt_ids += ids + tuple(step.observation.text.encode() if step.observation else b"")
    (result,) = farm.groups(rollouts=[group.id])
    for member in result.members:
        row = token_row(farm.trajectory(member.episode).steps)
        match member.outcome.kind:
            case "scored":
                print("scored", member.outcome.reward, "tokens", len(row.completion_ids), "of the policy", sum(row.mask))
            case "censored":  # a budget ran out: yours to decide
                print("censored by", member.outcome.budget)
            case "invalid":  # the farm's fault, and no zero: leave it out
                print("invalid", member.outcome.cause)
