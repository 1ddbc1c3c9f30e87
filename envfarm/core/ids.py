"""Identities. Distinct types, so that a run's id handed over as an episode's does not type-check."""

from typing import NewType

Digest = NewType("Digest", str)
"""`sha256:` and 64 hexadecimal digits: a content's identity."""

TaskDigest = NewType("TaskDigest", str)
"""The digest of a task's static files (never of reports, costs or bands)."""

RunId = NewType("RunId", str)
"""Of a run of the command line, or of a rollout: each rollout is a run."""
TenantId = NewType("TenantId", str)
GroupId = NewType("GroupId", str)
EpisodeId = NewType("EpisodeId", str)
BoxId = NewType("BoxId", str)
ExecId = NewType("ExecId", str)
"""Chosen by the caller: the same exec id never runs twice in one box."""


def episode_id(run: RunId, task: TaskDigest, member: int, *, turn: int = 0) -> EpisodeId:
    """The id of a run's episode: the same member of the same task of the same run is always the same episode.

    `turn` counts how often the whole group began anew: what is played then are other episodes.
    """
    return EpisodeId(f"{run}.{task.removeprefix('sha256:')[:12]}.{member:04d}" + (f"-{turn}" if turn else ""))


def group_id(run: RunId, task: TaskDigest) -> GroupId:
    """The id of a rollout's group."""
    return GroupId(f"{run}.{task.removeprefix('sha256:')[:12]}")
