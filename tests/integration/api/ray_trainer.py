"""A trainer on a Ray of two nodes, the one that read its records lost before it looks at them: `python -m` this, URL TOKEN ROLLOUT.

Prints, for each group, its id and for each member that counts its episode and the tools of its steps.
"""

import json
import os
import sys
from functools import partial
from typing import Any

import ray
from ray.cluster_utils import Cluster

from envfarm.client import Client
from envfarm.core.trajectory import Trajectory
from envfarm.integrations.ray_groups import READING, groups

LARGE = 1 << 20
"""Objects of this size stay on the node where they were made; small ones go to the driver at once."""
STORE: dict[str, Any] = {"object_store_memory": 80_000_000}


def tools_of(trajectory: Trajectory) -> tuple[list[str], bytes]:
    return [step.action.tool for step in trajectory.steps], bytes(LARGE)


def learn(url: str, token: str, rollout: str) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # noqa: TID251 - Ray's own
    cluster: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **STORE})
    ray.init(address=cluster.address, log_to_driver=False)
    node = cluster.add_node(num_cpus=0, resources={"reading": 1}, **STORE)
    options = {**READING, "resources": {"reading": 0.1}}
    found = list(groups(partial(Client, url, token), read=tools_of, rollouts=[rollout], options=options))
    objects = [made for group in found for _, made in group.records]
    ray.wait(objects, num_returns=len(objects), fetch_local=False)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(num_cpus=0, resources={"reading": 1}, **STORE)
    for group in found:
        told = [(member.episode, ray.get(made)[0]) for member, made in group.records]
        sys.stdout.write(json.dumps([group.result.group, told]) + "\n")
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    learn(*sys.argv[1:])
