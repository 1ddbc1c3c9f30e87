"""A trainer loop in ten lines against a running `envfarm serve`:  python examples/rollouts.py URL TOKEN [TASK…]"""

import sys

from envfarm.client import Client, PolicySpec, RolloutRequest, TaskSelector

with Client(sys.argv[1], sys.argv[2]) as farm:
    tasks = TaskSelector(names=tuple(sys.argv[3:]), limit=8)
    for _ in range(2):
        farm.new_version(farm.policy().version + 1)  # the farm keeps versions for ever, over all runs of this loop
        rollout = farm.submit(RolloutRequest(tasks=tasks, group_size=4, policy=PolicySpec(name="gold")))
        for group in farm.groups(rollouts=[rollout.id]):
            rewards = [m.outcome.reward for m in group.members if m.outcome.kind == "scored"]
            print(group.task_name, group.version, rewards)  # update the policy here
