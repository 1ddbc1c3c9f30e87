"""Drive a group of episodes step by step, keep the model's tokens with the steps, and read back what a learner trains on:

python examples/drive_steps.py URL TOKEN TASK
"""

import sys

from envfarm.client import (
    Bash,
    Censored,
    Client,
    Finish,
    Invalid,
    ModelCall,
    PolicySpec,
    RolloutRequest,
    Scored,
    StepRequest,
    TaskSelector,
)


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
    for played in farm.trajectories(group.id, group=result.group):
        rows = played.trajectory.rows() if played.trajectory else ()  # one for each conversation; also of agents that are programs
        match played.outcome:
            case Scored(reward=reward):
                print("scored", reward, "tokens", sum(len(row.ids) for row in rows), "of the policy", sum(sum(row.mask) for row in rows))
            case Censored(budget=budget):  # a budget ran out: yours to decide
                print("censored by", budget)
            case Invalid(cause=cause):  # the farm's fault, and no zero: leave it out
                print("invalid", cause)
