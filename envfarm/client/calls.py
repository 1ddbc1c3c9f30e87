"""Every call that the clients make, once: path, body and the type of the answer. Pure."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from envfarm.client.exchange import Call
from envfarm.core.episode import EpisodeSpec
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest, EpisodeId, RunId, TaskDigest
from envfarm.core.image import Environment
from envfarm.core.outcome import Censored, Invalid, Scored
from envfarm.core.rollout import (
    Acknowledged,
    EpisodeRequest,
    EpisodeView,
    ForkRequest,
    LeasedGroup,
    LeaseRequest,
    PolicyState,
    RewardRequest,
    RewardView,
    RolloutEvent,
    RolloutRequest,
    RolloutView,
    SnapshotView,
    StepRequest,
    StepView,
    TaskSelector,
)
from envfarm.core.trajectory import Trajectory
from envfarm.core.usage import UsageBy, UsagePage

M = TypeVar("M", bound=BaseModel)
BYTES = {"Content-Type": "application/octet-stream"}
ENDS = frozenset({"done", "cancelled"})
"""Kinds of a rollout's last event."""


class Told(Frozen):
    """An episode with all that happened in it."""

    spec: EpisodeSpec
    state: str
    outcome: Scored | Invalid | Censored | None
    trajectory: Trajectory | None


class ToldPage(Frozen):
    """A page of them."""

    items: tuple[Told, ...]
    next: str | None


class TaskInfo(BaseModel):
    """A task, as a list shows it. Fields that a newer farm adds are kept out of the way."""

    digest: str
    name: str
    kind: str
    language: str
    repository: str
    scored: int = 0
    pass_rate: float | None = None


class TaskPage(BaseModel):
    """Some of the selected tasks."""

    items: tuple[TaskInfo, ...]
    total: int
    next: str | None = None


class UsageAsked(Frozen):
    """Whose use: a line per tenant, rollout or episode, of attempts that ended in a window (seconds since 1970)."""

    by: UsageBy = "rollout"
    since: float = 0.0
    until: float | None = None
    rollout: str = ""
    everyone: bool = False
    """Of all tenants; for the operator."""


class Me(BaseModel):
    """Whose token it is, and what the farm is."""

    tenant: str
    scopes: tuple[str, ...]
    sandbox: str = "local"
    """Whose boxes it plays in: what rollouts ask for."""


class EpisodeInfo(BaseModel):
    """An episode, as a list shows it."""

    id: EpisodeId
    task: TaskDigest
    member: int
    policy: str
    state: str
    kind: str
    """Of the outcome: `scored`, `invalid`, `censored`; empty before there is one."""
    reward: float | None
    verdict: str
    why: str


class EpisodePage(BaseModel):
    """Some of a rollout's episodes, in its order."""

    items: tuple[EpisodeInfo, ...]
    next: str | None = None


class CatalogueInfo(BaseModel):
    """What bringing a task to a farm takes."""

    sandbox: str
    builds: bool
    """Whether the farm makes environments itself. Else a task comes with one."""
    max_archive_bytes: int
    max_blob_bytes: int


class Missing(BaseModel):
    """Digests of tasks and blobs that are not there."""

    tasks: tuple[TaskDigest, ...] = ()
    blobs: tuple[Digest, ...] = ()


class Groups(Frozen):
    """Leased ones."""

    groups: tuple[LeasedGroup, ...]


def submit(request: RolloutRequest, key: str) -> Call[RolloutView]:
    """Ask for a rollout."""
    return _post("/v1/rollouts", RolloutView, request, key=key)


def rollout(run: RunId) -> Call[RolloutView]:
    """Where it stands."""
    return Call("GET", f"/v1/rollouts/{run}", reads(RolloutView))


def cancel(run: RunId) -> Call[RolloutView]:
    """Call it off."""
    return Call("DELETE", f"/v1/rollouts/{run}", reads(RolloutView))


def trajectories(run: RunId, cursor: str, limit: int) -> Call[ToldPage]:
    """A page of what happened."""
    return Call("GET", f"/v1/rollouts/{run}/trajectories", reads(ToldPage), query={"cursor": cursor, "limit": limit})


def lease(ask: LeaseRequest) -> Call[tuple[LeasedGroup, ...]]:
    """The next finished groups."""
    asked = _post("/v1/results/lease", Groups, ask, wait_s=ask.wait_s)
    return Call(asked.method, asked.path, lambda data: asked.read(data).groups, body=asked.body, headers=asked.headers, wait_s=asked.wait_s)


def acknowledge(leases: Sequence[str]) -> Call[Acknowledged]:
    """They are done with."""
    return _post("/v1/results/acknowledge", Acknowledged, {"leases": list(leases)})


def policy(name: str) -> Call[PolicyState]:
    """A policy's version."""
    return Call("GET", f"/v1/policies/{name}", reads(PolicyState))


def new_version(name: str, version: int) -> Call[PolicyState]:
    """A new one came."""
    return _post(f"/v1/policies/{name}/version", PolicyState, {"version": version})


def steer(name: str, what: str) -> Call[PolicyState]:
    """`pause`, `resume` or `abort`."""
    return _post(f"/v1/policies/{name}/{what}", PolicyState, {})


def create_episode(request: EpisodeRequest, key: str, wait_s: float) -> Call[EpisodeView]:
    """Begin one."""
    return _post("/v1/episodes", EpisodeView, request, key=key, wait_s=wait_s)


def episode(episode_id: EpisodeId, wait_s: float) -> Call[EpisodeView]:
    """Where it stands."""
    return Call("GET", f"/v1/episodes/{episode_id}", reads(EpisodeView), query={"wait_s": wait_s}, wait_s=wait_s)


def step(episode_id: EpisodeId, asked: StepRequest, wait_s: float) -> Call[StepView]:
    """Carry an action out, once."""
    return _post(f"/v1/episodes/{episode_id}/steps", StepView, asked, wait_s=wait_s)


def grade(episode_id: EpisodeId, wait_s: float) -> Call[EpisodeView]:
    """End it and have it graded."""
    return _post(f"/v1/episodes/{episode_id}/grade", EpisodeView, {}, wait_s=wait_s)


def snapshot(episode_id: EpisodeId) -> Call[SnapshotView]:
    """A name for what it has come to."""
    return _post(f"/v1/episodes/{episode_id}/snapshot", SnapshotView, {})


def fork(episode_id: EpisodeId, asked: ForkRequest, key: str, wait_s: float) -> Call[EpisodeView]:
    """Another one that goes on from there."""
    return _post(f"/v1/episodes/{episode_id}/fork", EpisodeView, asked, key=key, wait_s=wait_s)


def close_episode(episode_id: EpisodeId) -> Call[EpisodeView]:
    """Call it off."""
    return Call("DELETE", f"/v1/episodes/{episode_id}", reads(EpisodeView))


def trajectory(episode_id: EpisodeId) -> Call[Trajectory]:
    """What happened in one."""
    return Call("GET", f"/v1/episodes/{episode_id}/trajectory", reads(Trajectory))


def reward(request: RewardRequest, key: str, wait_s: float) -> Call[RewardView]:
    """Grade a patch."""
    return _post("/v1/rewards", RewardView, request, key=key, wait_s=wait_s)


def tasks(wanted: TaskSelector, cursor: str) -> Call[TaskPage]:
    """What there is to train on."""
    asked = _post("/v1/tasks/select", TaskPage, wanted)
    return Call(asked.method, asked.path, asked.read, query={"cursor": cursor}, body=asked.body, headers=asked.headers)


def usage(asked: UsageAsked, cursor: str) -> Call[UsagePage]:
    """What was used."""
    return Call("GET", "/v1/usage", reads(UsagePage), query=asked.model_dump(exclude_defaults=True) | {"cursor": cursor})


def me() -> Call[Me]:
    """Whose token it is."""
    return Call("GET", "/v1/me", reads(Me))


def episodes(run: RunId, cursor: str) -> Call[EpisodePage]:
    """A page of a rollout's episodes."""
    return Call("GET", "/v1/episodes", reads(EpisodePage), query={"rollout": run, "cursor": cursor, "limit": 500})


def catalogue() -> Call[CatalogueInfo]:
    """What bringing a task takes."""
    return Call("GET", "/v1/catalogue", reads(CatalogueInfo))


def missing(wanted: Missing) -> Call[Missing]:
    """What of it is not there."""
    return _post("/v1/catalogue/missing", Missing, wanted)


def put_blob(digest: Digest, data: bytes) -> Call[bytes]:
    """Bring a checkout's archive."""
    return Call("PUT", f"/v1/catalogue/blobs/{digest}", bytes, body=data, headers=BYTES)


def put_task(digest: TaskDigest, archive: bytes, origin: Mapping[str, str]) -> Call[bytes]:
    """Bring a task's archive."""
    return Call("PUT", f"/v1/catalogue/tasks/{digest}", bytes, query=origin, body=archive, headers=BYTES)


def put_environment(task: TaskDigest, environment: Environment) -> Call[bytes]:
    """Say what the farm's boxes of a task are made of."""
    body = environment.model_dump_json().encode()
    return Call("PUT", f"/v1/catalogue/tasks/{task}/environment", bytes, body=body, headers={"Content-Type": "application/json"})


def put_report(task: TaskDigest, packed: bytes) -> Call[bytes]:
    """Bring a report of the gates, as the catalogue packs it."""
    return Call("PUT", f"/v1/catalogue/tasks/{task}/report", bytes, body=packed, headers=BYTES)


def reads(kind: type[M]) -> Callable[[bytes], M]:
    """A reader of answers of one type."""
    return TypeAdapter(kind).validate_json


class EventFeed:
    """A rollout's events over as many connections as it takes. Told each line, it gives events; it knows when all came."""

    def __init__(self, run: RunId, after: int) -> None:
        self._run = run
        self._last = after
        self._data: list[str] = []
        self._came = False
        self._was_over = False
        self.over = False
        self.empty = 0
        """Connections in a row that ended well and brought nothing."""

    def call(self) -> Call[bytes]:
        """The request that goes on where the last connection ended."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}
        return Call("GET", f"/v1/rollouts/{self._run}/events", bytes, headers=headers, wait_s=30.0)

    def line(self, text: str) -> RolloutEvent | None:
        """The event that this line completes, if it does. Raises `ValueError` for nonsense."""
        if text.startswith("data:"):
            self._data.append(text.removeprefix("data:").removeprefix(" "))
        if text or not self._data:
            return None
        event = RolloutEvent.model_validate_json("\n".join(self._data))
        self._data.clear()
        if event.number <= self._last:
            return None
        self._last, self._came, self.empty = event.number, True, 0
        self.over = event.kind in ENDS
        return event

    def ended_well(self) -> bool:
        """The server ended the connection. Whether how the rollout stands is to be told by `stands`: nothing came, perhaps for good."""
        if self._came:
            return False
        self.empty += 1
        self.over = self._was_over
        return not self.over

    def stands(self, rollout: RolloutView) -> bool:
        """Whether to wait before the next connection. One that was made after the end, and brings nothing, is the last."""
        self._was_over = rollout.state != "active"
        return not self._was_over

    def broken(self) -> None:
        """The connection ended: half an event is none."""
        self._data.clear()
        self._came = False


def _post(path: str, kind: type[M], body: BaseModel | dict[str, Any], *, key: str = "", wait_s: float | None = None) -> Call[M]:
    data = body.model_dump_json().encode() if isinstance(body, BaseModel) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    # A lease says in its body how long it waits; all others in the query.
    query = {} if wait_s is None or isinstance(body, LeaseRequest) else {"wait_s": wait_s}
    return Call("POST", path, reads(kind), query=query, body=data, headers=headers, wait_s=wait_s or 0.0)
