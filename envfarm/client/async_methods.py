"""Every method of the asynchronous client, over one that makes a call. `methods.py` is this file without `async`.

Change it here, then `python -m tests.architecture.test_client_twins` writes the other one.
"""

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from envfarm.client import calls
from envfarm.client.exchange import Call
from envfarm.core.engine import EngineSpec
from envfarm.core.image import Environment
from envfarm.core.listing import (
    Cancelled,
    CatalogueInfo,
    DatasetView,
    EpisodeInfo,
    EpisodeRecord,
    Explanation,
    Me,
    NewDataset,
    NewToken,
    TaskDetail,
    TaskInfo,
    TasksAndBlobs,
    Use,
)
from envfarm.core.rollout import (
    Acknowledged,
    EpisodeRequest,
    EpisodeView,
    ForkRequest,
    GroupResult,
    LeasedGroup,
    LeaseRequest,
    PolicyState,
    Quota,
    RewardRequest,
    RewardView,
    RolloutRequest,
    RolloutView,
    SnapshotView,
    StepRequest,
    StepView,
    TaskSelector,
)
from envfarm.core.trajectory import Trajectory
from envfarm.core.usage import UsageLine, UsageQuery

T = TypeVar("T")
log = logging.getLogger(__name__)


class AsyncMethods:
    """What can be asked of a farm. Every method raises `ServerProblem`, after as many tries as the client's retry policy has."""

    async def _do(self, call: Call[T]) -> T:
        """Make a call. The client's to say how."""
        raise NotImplementedError

    async def submit(self, request: RolloutRequest, *, key: str = "") -> RolloutView:
        """Ask for groups of episodes. The same `key` again is the same rollout; one is drawn where none is given."""
        return await self._do(calls.submit(request, key or _key()))

    async def rollout(self, rollout: str, *, whole: bool = False) -> RolloutView:
        """Where it stands; `whole` with all of its request, however long."""
        return await self._do(calls.rollout(rollout, whole=whole))

    async def cancel(self, rollout: str) -> RolloutView:
        """Call it off; safe to repeat."""
        return await self._do(calls.cancel(rollout))

    async def lease(self, ask: LeaseRequest) -> tuple[LeasedGroup, ...]:
        """The next finished groups, to be acknowledged. See `groups` for what does both."""
        leased = await self._do(calls.lease(ask))
        return leased.groups

    async def acknowledge(self, leases: Sequence[str]) -> Acknowledged:
        """They are never given out again."""
        return await self._do(calls.acknowledge(leases))

    async def policy(self, name: str = "default") -> PolicyState:
        """A policy's version, and whether it is paused."""
        return await self._do(calls.policy(name))

    async def new_version(self, version: int, name: str = "default") -> PolicyState:
        """The policy's endpoint serves this version from now on."""
        return await self._do(calls.new_version(name, version))

    async def pause(self, name: str = "default") -> PolicyState:
        """Start no further episodes of it."""
        return await self._do(calls.steer(name, "pause"))

    async def resume(self, name: str = "default") -> PolicyState:
        """Start episodes again."""
        return await self._do(calls.steer(name, "resume"))

    async def abort(self, name: str = "default") -> PolicyState:
        """Have what is in flight begin anew."""
        return await self._do(calls.steer(name, "abort"))

    async def create_episode(self, request: EpisodeRequest, *, key: str = "", wait_s: float = 30.0) -> EpisodeView:
        """Begin an episode that is driven step by step."""
        return await self._do(calls.create_episode(request, key or _key(), wait_s))

    async def episode(self, episode: str, *, wait_s: float = 0.0) -> EpisodeView:
        """Where it stands; waits until it wants an action or is over."""
        return await self._do(calls.episode(episode, wait_s))

    async def step(self, episode: str, step: StepRequest, *, wait_s: float = 30.0) -> StepView:
        """Carry an action out, once per step id, and wait for it however long it takes."""
        while not (view := await self._do(calls.step(episode, step, wait_s))).done:
            pass
        return view

    async def grade(self, episode: str, *, wait_s: float = 30.0) -> EpisodeView:
        """End an episode, and wait for its outcome however long the grading takes."""
        while (view := await self._do(calls.grade(episode, wait_s))).state != "ended":
            pass
        return view

    async def snapshot(self, episode: str) -> SnapshotView:
        """A name for what an episode has come to, to fork from later."""
        return await self._do(calls.snapshot(episode))

    async def fork(self, episode: str, request: ForkRequest | None = None, *, key: str = "", wait_s: float = 30.0) -> EpisodeView:
        """Another episode that goes on from there; its `branch.agreed` says whether its box answered the steps so far as before."""
        return await self._do(calls.fork(episode, request or ForkRequest(), key or _key(), wait_s))

    async def close_episode(self, episode: str) -> EpisodeView:
        """Call it off; safe to repeat."""
        return await self._do(calls.close_episode(episode))

    async def trajectory(self, episode: str) -> Trajectory:
        """What happened in an episode, step by step, with its tokens; also in one of a rollout's."""
        return await self._do(calls.trajectory(episode))

    async def explanation(self, episode: str) -> Explanation:
        """Why its reward is what it is, in words; with the end of the tests' log for a token with the scope `admin`."""
        return await self._do(calls.explanation(episode))

    async def blob(self, episode: str, digest: str) -> bytes:
        """What its record keeps by reference: a call's routed experts, as the engine gave them."""
        return await self._do(calls.blob(episode, digest))

    async def reward(self, request: RewardRequest, *, key: str = "", wait_s: float = 30.0) -> RewardView:
        """Grade a patch, and wait for the outcome however long it takes."""
        key = key or _key()
        while (view := await self._do(calls.reward(request, key, wait_s))).outcome is None:
            pass
        return view

    async def groups(self, *, rollouts: Sequence[str] = (), lease_s: float = 300.0) -> AsyncIterator[GroupResult]:
        """Finished groups, one at a time, each acknowledged when the next is asked for: what fails in between comes again.

        Of these rollouts, until they are over; without any, of all of the tenant's and without an end. `lease_s` is how long nobody else
        is given the group. One that was given out before, as the last of a loop that was left, says so: see `GroupResult.redelivered`.
        """
        ask = LeaseRequest(lease_s=lease_s, wait_s=20.0 if not rollouts else 5.0, rollouts=tuple(rollouts))
        while True:
            leased = await self.lease(ask)
            for group in leased:
                yield group.result
                if (await self.acknowledge([group.lease])).lapsed:
                    log.warning("group %s is another caller's since its lease of %g s lapsed: raise lease_s", group.result.group, lease_s)
            if rollouts and not leased and not [run for run in rollouts if await self._is_open(run)]:
                return

    async def trajectories(self, rollout: str, *, group: str = "", page: int = 20) -> AsyncIterator[EpisodeRecord]:
        """Every episode of a rollout, or of one of its groups, with its steps and tokens."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._do(calls.trajectories(rollout, group, cursor, page))
            for item in found.items:
                yield item
            cursor = found.next

    async def tasks(self, wanted: TaskSelector | None = None) -> AsyncIterator[TaskInfo]:
        """The tasks that pass a selector; all valid ones without."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._do(calls.tasks(wanted or TaskSelector(), cursor))
            for item in found.items:
                yield item
            cursor = found.next

    async def task(self, name: str) -> TaskDetail:
        """One task with its instruction, by name or digest or the unique beginning of one."""
        return await self._do(calls.task(name))

    async def datasets(self) -> tuple[str, ...]:
        """`name@version` of each: the tenant's own, and the operator's."""
        return await self._do(calls.datasets())

    async def dataset(self, name: str) -> DatasetView:
        """One with its splits, by its `name@version`."""
        return await self._do(calls.dataset(name))

    async def create_dataset(self, request: NewDataset) -> DatasetView:
        """Make one. The same again is no error; other tasks under a known name and version are."""
        return await self._do(calls.create_dataset(request))

    async def usage(self, asked: UsageQuery | None = None) -> AsyncIterator[UsageLine]:
        """What attempts used, a line per tenant, rollout or episode; of everything that ended, by rollout, where nothing is said."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._do(calls.usage(asked or UsageQuery(), cursor))
            for item in found.items:
                yield item
            cursor = found.next

    async def me(self) -> Me:
        """Whose token this is, and what the farm is."""
        return await self._do(calls.me())

    async def use(self) -> Use:
        """The quota of this token's tenant, and its episodes by state."""
        return await self._do(calls.use())

    async def tenants(self) -> tuple[Use, ...]:
        """Every tenant. This and what follows, up to the engines, want the scope `admin`."""
        return await self._do(calls.tenants())

    async def put_tenant(self, tenant: str, quota: Quota) -> Quota:
        """Make a tenant, or give it another quota."""
        return await self._do(calls.put_tenant(tenant, quota))

    async def issue_token(self, tenant: str, new: NewToken) -> str:
        """A new token, seen this one time. Where an answer is lost and asked for again, there are two of this name."""
        issued = await self._do(calls.issue_token(tenant, new))
        return issued.token

    async def revoke_token(self, tenant: str, name: str) -> int:
        """Every token of this name is worth nothing from now on; how many there were."""
        revoked = await self._do(calls.revoke_token(tenant, name))
        return revoked.revoked

    async def cancel_tenant(self, tenant: str) -> Cancelled:
        """Call off all of its work that is not over. A quota with `active_rollouts=0`, put before, refuses more."""
        return await self._do(calls.cancel_tenant(tenant))

    async def engines(self) -> tuple[EngineSpec, ...]:
        """Which sample for the programs in boxes, without their keys."""
        return await self._do(calls.engines())

    async def put_engines(self, engines: Sequence[EngineSpec]) -> tuple[EngineSpec, ...]:
        """These and no others from now on. One without `api_key` keeps the key of the one that has its name and url now."""
        return await self._do(calls.put_engines(engines))

    async def episodes(self, rollout: str) -> AsyncIterator[EpisodeInfo]:
        """Every episode of a rollout with what became of it, in a line each."""
        cursor: str | None = ""
        while cursor is not None:
            found = await self._do(calls.episodes(rollout, cursor))
            for item in found.items:
                yield item
            cursor = found.next

    async def catalogue(self) -> CatalogueInfo:
        """What bringing a task to this farm takes. This and what follows want the scope `catalogue`."""
        return await self._do(calls.catalogue())

    async def missing(self, wanted: TasksAndBlobs) -> TasksAndBlobs:
        """Which of these tasks and blobs are not there."""
        return await self._do(calls.missing(wanted))

    async def put_blob(self, digest: str, data: bytes) -> None:
        """Bring a checkout's archive; one that is there is left alone."""
        await self._do(calls.put_blob(digest, data))

    async def put_task(self, digest: str, archive: bytes, *, repository: str = "", source_digest: str = "") -> None:
        """Bring a task's archive, as the catalogue packs it; one that is there is left alone."""
        await self._do(calls.put_task(digest, archive, {"repository": repository, "source_digest": source_digest}))

    async def put_environment(self, task: str, environment: Environment) -> None:
        """Say what the farm's boxes of a task are made of, in place of what was said before."""
        await self._do(calls.put_environment(task, environment))

    async def put_report(self, task: str, packed: bytes) -> None:
        """Bring a report of the gates, in place of an earlier one of the same provider's boxes unless it says less."""
        await self._do(calls.put_report(task, packed))

    async def _is_open(self, rollout: str) -> bool:
        view = await self.rollout(rollout)
        return view.state == "active" or view.groups.get("ready", 0) > 0


def _key() -> str:
    return secrets.token_hex(16)
