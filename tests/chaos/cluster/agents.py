"""Who plays in a storm, and what each has earned: known beforehand, so that a reward which a fault made is seen.

Some break their own box on purpose. They have earned 0, at the first attempt: breaking it buys no other.
"""

from typing import Any, NamedTuple

from envfarm.core.episode import PolicySpec


def _does(*commands: str) -> PolicySpec:
    actions: list[dict[str, Any]] = [{"tool": "bash", "command": command} for command in commands]
    return PolicySpec(name="scripted", options={"actions": actions})


class Agent(NamedTuple):
    """One way to play."""

    policy: PolicySpec
    reward: float
    share: int
    """Of twenty episodes."""
    breaks: str = ""
    """How it breaks its own box; empty where it does not."""


AGENTS: dict[str, Agent] = {
    "gold": Agent(PolicySpec(name="gold"), 1.0, 11),
    "idle": Agent(_does("sleep 1", "cat add.sh", "sleep 1"), 0.0, 5),
    "eats memory": Agent(_does("ls", "tail /dev/zero"), 0.0, 1, "the kernel kills what has too much memory"),
    "ends all": Agent(_does("ls", "kill -9 -1; sleep 1", "ls"), 0.0, 1, "every process that it may signal"),
    "fills the disk": Agent(_does("ls", "head -c 1000000000 /dev/zero >/tmp/full", "head -c 1000000000 /dev/zero >full"), 0.0, 1, "disk"),
    "many processes": Agent(_does("ls", "for i in $(seq 300); do sleep 20 & done; wait"), 0.0, 1, "more processes than it may have"),
}
