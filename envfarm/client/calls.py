"""Every call that the clients make, once: path, body and the type of the answer. Pure.

What is sent must be exactly what the nouns say. Of what comes, fields that a newer farm has added are left out, however deep they stand.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from envfarm.client.exchange import Call
from envfarm.core.engine import EngineSpec
from envfarm.core.image import Environment
from envfarm.core.listing import (
    Cancelled,
    CatalogueInfo,
    DatasetView,
    EpisodePage,
    Explanation,
    Issued,
    Me,
    NewDataset,
    NewToken,
    Revoked,
    TaskDetail,
    TaskPage,
    TasksAndBlobs,
    TrajectoryPage,
    Use,
)
from envfarm.core.rollout import (
    Acknowledged,
    EpisodeRequest,
    EpisodeView,
    ForkRequest,
    Leased,
    LeaseRequest,
    PolicyState,
    Quota,
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
from envfarm.core.usage import UsagePage, UsageQuery

M = TypeVar("M")
BYTES = {"Content-Type": "application/octet-stream"}
STOPPING_S = 600.0
"""How long the work of a tenant may take to be called off: 20,000 rollouts at a hundred a second or more slowly."""
ENDS = frozenset({"done", "cancelled"})
"""Kinds of a rollout's last event."""


def submit(request: RolloutRequest, key: str) -> Call[RolloutView]:
    """Ask for a rollout."""
    return _post("/v1/rollouts", RolloutView, request, key=key)


def rollout(run: str, *, whole: bool = False) -> Call[RolloutView]:
    """Where it stands."""
    return Call("GET", f"/v1/rollouts/{run}", reads(RolloutView), query={"whole": whole or None})


def cancel(run: str) -> Call[RolloutView]:
    """Call it off."""
    return Call("DELETE", f"/v1/rollouts/{run}", reads(RolloutView))


def trajectories(run: str, group: str, cursor: str, limit: int) -> Call[TrajectoryPage]:
    """A page of what happened."""
    query = {"group": group, "cursor": cursor, "limit": limit}
    return Call("GET", f"/v1/rollouts/{run}/trajectories", reads(TrajectoryPage), query=query)


def lease(ask: LeaseRequest) -> Call[Leased]:
    """The next finished groups."""
    return replace(_post("/v1/results/lease", Leased, ask), wait_s=ask.wait_s)


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


def episode(episode_id: str, wait_s: float) -> Call[EpisodeView]:
    """Where it stands."""
    return Call("GET", f"/v1/episodes/{episode_id}", reads(EpisodeView), query={"wait_s": wait_s}, wait_s=wait_s)


def step(episode_id: str, asked: StepRequest, wait_s: float) -> Call[StepView]:
    """Carry an action out, once."""
    return _post(f"/v1/episodes/{episode_id}/steps", StepView, asked, wait_s=wait_s)


def grade(episode_id: str, wait_s: float) -> Call[EpisodeView]:
    """End it and have it graded."""
    return _post(f"/v1/episodes/{episode_id}/grade", EpisodeView, {}, wait_s=wait_s)


def snapshot(episode_id: str) -> Call[SnapshotView]:
    """A name for what it has come to."""
    return _post(f"/v1/episodes/{episode_id}/snapshot", SnapshotView, {})


def fork(episode_id: str, asked: ForkRequest, key: str, wait_s: float) -> Call[EpisodeView]:
    """Another one that goes on from there."""
    return _post(f"/v1/episodes/{episode_id}/fork", EpisodeView, asked, key=key, wait_s=wait_s)


def close_episode(episode_id: str) -> Call[EpisodeView]:
    """Call it off."""
    return Call("DELETE", f"/v1/episodes/{episode_id}", reads(EpisodeView))


def trajectory(episode_id: str) -> Call[Trajectory]:
    """What happened in one."""
    return Call("GET", f"/v1/episodes/{episode_id}/trajectory", reads(Trajectory))


def explanation(episode_id: str) -> Call[Explanation]:
    """Why its reward is what it is."""
    return Call("GET", f"/v1/episodes/{episode_id}/explanation", reads(Explanation))


def blob(episode_id: str, digest: str) -> Call[bytes]:
    """What its record keeps by reference."""
    return Call("GET", f"/v1/episodes/{episode_id}/blobs/{digest}", bytes)


def reward(request: RewardRequest, key: str, wait_s: float) -> Call[RewardView]:
    """Grade a patch."""
    return _post("/v1/rewards", RewardView, request, key=key, wait_s=wait_s)


def tasks(wanted: TaskSelector, cursor: str) -> Call[TaskPage]:
    """What there is to train on."""
    return replace(_post("/v1/tasks/select", TaskPage, wanted), query={"cursor": cursor})


def task(name: str) -> Call[TaskDetail]:
    """One of them."""
    return Call("GET", f"/v1/tasks/{name}", reads(TaskDetail))


def datasets() -> Call[tuple[str, ...]]:
    """Their names."""
    return Call("GET", "/v1/datasets", reads(tuple[str, ...]))


def dataset(name: str) -> Call[DatasetView]:
    """One of them."""
    return Call("GET", f"/v1/datasets/{name}", reads(DatasetView))


def create_dataset(asked: NewDataset) -> Call[DatasetView]:
    """Make one."""
    return _post("/v1/datasets", DatasetView, asked)


def usage(asked: UsageQuery, cursor: str) -> Call[UsagePage]:
    """What was used."""
    return Call("GET", "/v1/usage", reads(UsagePage), query=asked.model_dump(exclude_defaults=True) | {"cursor": cursor})


def me() -> Call[Me]:
    """Whose token it is."""
    return Call("GET", "/v1/me", reads(Me))


def use() -> Call[Use]:
    """What its tenant has."""
    return Call("GET", "/v1/me/use", reads(Use))


def tenants() -> Call[tuple[Use, ...]]:
    """Everybody, and what they have."""
    return Call("GET", "/v1/tenants", reads(tuple[Use, ...]))


def put_tenant(tenant: str, quota: Quota) -> Call[Quota]:
    """Make one, or change its quota."""
    return replace(_post(f"/v1/tenants/{tenant}", Quota, quota), method="PUT")


def issue_token(tenant: str, new: NewToken) -> Call[Issued]:
    """One more token."""
    return _post(f"/v1/tenants/{tenant}/tokens", Issued, new)


def revoke_token(tenant: str, name: str) -> Call[Revoked]:
    """Those of one name."""
    return Call("DELETE", f"/v1/tenants/{tenant}/tokens/{name}", reads(Revoked))


def cancel_tenant(tenant: str) -> Call[Cancelled]:
    """Call all of its work off."""
    return Call("DELETE", f"/v1/tenants/{tenant}/rollouts", reads(Cancelled), wait_s=STOPPING_S)


def engines() -> Call[tuple[EngineSpec, ...]]:
    """Which sample for programs."""
    return Call("GET", "/v1/engines", reads(tuple[EngineSpec, ...]))


def put_engines(wanted: Sequence[EngineSpec]) -> Call[tuple[EngineSpec, ...]]:
    """These from now on. A key that was not given is not sent, and so is kept."""
    keys = [{"api_key": e.api_key.get_secret_value()} if "api_key" in e.model_fields_set else {} for e in wanted]
    told = [e.model_dump(mode="json", exclude={"api_key"}) | key for e, key in zip(wanted, keys, strict=True)]
    return replace(_post("/v1/engines", tuple[EngineSpec, ...], told), method="PUT")


def episodes(run: str, cursor: str) -> Call[EpisodePage]:
    """A page of a rollout's episodes."""
    return Call("GET", "/v1/episodes", reads(EpisodePage), query={"rollout": run, "cursor": cursor, "limit": 500})


def catalogue() -> Call[CatalogueInfo]:
    """What bringing a task takes."""
    return Call("GET", "/v1/catalogue", reads(CatalogueInfo))


def missing(wanted: TasksAndBlobs) -> Call[TasksAndBlobs]:
    """What of it is not there."""
    return _post("/v1/catalogue/missing", TasksAndBlobs, wanted)


def put_blob(digest: str, data: bytes) -> Call[bytes]:
    """Bring a checkout's archive."""
    return Call("PUT", f"/v1/catalogue/blobs/{digest}", bytes, body=data, headers=BYTES)


def put_task(digest: str, archive: bytes, origin: Mapping[str, str]) -> Call[bytes]:
    """Bring a task's archive."""
    return Call("PUT", f"/v1/catalogue/tasks/{digest}", bytes, query=origin, body=archive, headers=BYTES)


def put_environment(task: str, environment: Environment) -> Call[bytes]:
    """Say what the farm's boxes of a task are made of."""
    body = environment.model_dump_json().encode()
    return Call("PUT", f"/v1/catalogue/tasks/{task}/environment", bytes, body=body, headers={"Content-Type": "application/json"})


def put_report(task: str, packed: bytes) -> Call[bytes]:
    """Bring a report of the gates, as the catalogue packs it."""
    return Call("PUT", f"/v1/catalogue/tasks/{task}/report", bytes, body=packed, headers=BYTES)


def reads(kind: type[M]) -> Callable[[bytes], M]:
    """A reader of answers of one type."""
    return partial(TypeAdapter(kind).validate_json, extra="ignore")


_EVENT = reads(RolloutEvent)


class EventFeed:
    """A rollout's events over as many connections as it takes. Told each line, it gives events; it knows when all came."""

    def __init__(self, run: str, after: int) -> None:
        self._run = run
        self._last = after
        self._data: list[str] = []
        self._told = False
        self.over = False

    def call(self) -> Call[bytes]:
        """The request that goes on where the last connection ended."""
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._last)}
        return Call("GET", f"/v1/rollouts/{self._run}/events", bytes, headers=headers, wait_s=30.0)

    def line(self, text: str) -> RolloutEvent | None:
        """The event that this line completes, if it does. Raises `ValueError` for nonsense."""
        self._told = True
        if text.startswith("data:"):
            self._data.append(text.removeprefix("data:").removeprefix(" "))
        if text or not self._data:
            return None
        event = _EVENT("\n".join(self._data).encode())
        self._data.clear()
        if event.number <= self._last:
            return None
        self._last = event.number
        self.over = event.kind in ENDS
        return event

    def ended(self) -> None:
        """The server ended the connection: half an event is none, and without a line nothing is to come any more."""
        self.over = self.over or not self._told
        self.broken()

    def broken(self) -> None:
        """The connection broke off: half an event is none."""
        self._data.clear()
        self._told = False


def _post(path: str, kind: type[M], body: BaseModel | dict[str, Any] | list[Any], *, key: str = "", wait_s: float | None = None) -> Call[M]:
    data = body.model_dump_json().encode() if isinstance(body, BaseModel) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    query = {} if wait_s is None else {"wait_s": wait_s}
    return Call("POST", path, reads(kind), query=query, body=data, headers=headers, wait_s=wait_s or 0.0)
