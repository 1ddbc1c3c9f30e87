"""Every method of the synchronous client, over one that makes a call.

Written from `async_methods.py` by `python -m tests.architecture.test_client_twins`: never changed by hand.
"""

import logging
import secrets
from collections.abc import Iterator, Sequence
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


class Methods:
    """What can be asked of a farm. Every method raises `ServerProblem`, after as many tries as the client's retry policy has."""

    def _do(self, call: Call[T]) -> T:
        """Make a call. The client's to say how."""
        raise NotImplementedError

    def submit(self, request: RolloutRequest, *, key: str = "") -> RolloutView:
        """Ask for groups of episodes. The same `key` again is the same rollout; one is drawn where none is given."""
        return self._do(calls.submit(request, key or _key()))

    def rollout(self, rollout: str, *, whole: bool = False) -> RolloutView:
        """Where it stands; `whole` with all of its request, however long."""
        return self._do(calls.rollout(rollout, whole=whole))

    def cancel(self, rollout: str) -> RolloutView:
        """Call it off; safe to repeat."""
        return self._do(calls.cancel(rollout))

    def lease(self, ask: LeaseRequest) -> tuple[LeasedGroup, ...]:
        """The next finished groups, to be acknowledged. See `groups` for what does both."""
        leased = self._do(calls.lease(ask))
        return leased.groups

    def acknowledge(self, leases: Sequence[str]) -> Acknowledged:
        """They are never given out again."""
        return self._do(calls.acknowledge(leases))

    def policy(self, name: str = "default") -> PolicyState:
        """A policy's version, and whether it is paused."""
        return self._do(calls.policy(name))

    def new_version(self, version: int, name: str = "default") -> PolicyState:
        """The policy's endpoint serves this version from now on."""
        return self._do(calls.new_version(name, version))

    def pause(self, name: str = "default") -> PolicyState:
        """Start no further episodes of it."""
        return self._do(calls.steer(name, "pause"))

    def resume(self, name: str = "default") -> PolicyState:
        """Start episodes again."""
        return self._do(calls.steer(name, "resume"))

    def abort(self, name: str = "default") -> PolicyState:
        """Have what is in flight begin anew."""
        return self._do(calls.steer(name, "abort"))

    def create_episode(self, request: EpisodeRequest, *, key: str = "", wait_s: float = 30.0) -> EpisodeView:
        """Begin an episode that is driven step by step."""
        return self._do(calls.create_episode(request, key or _key(), wait_s))

    def episode(self, episode: str, *, wait_s: float = 0.0) -> EpisodeView:
        """Where it stands; waits until it wants an action or is over."""
        return self._do(calls.episode(episode, wait_s))

    def step(self, episode: str, step: StepRequest, *, wait_s: float = 30.0) -> StepView:
        """Carry an action out, once per step id, and wait for it however long it takes."""
        while not (view := self._do(calls.step(episode, step, wait_s))).done:
            pass
        return view

    def grade(self, episode: str, *, wait_s: float = 30.0) -> EpisodeView:
        """End an episode, and wait for its outcome however long the grading takes."""
        while (view := self._do(calls.grade(episode, wait_s))).state != "ended":
            pass
        return view

    def snapshot(self, episode: str) -> SnapshotView:
        """A name for what an episode has come to, to fork from later."""
        return self._do(calls.snapshot(episode))

    def fork(self, episode: str, request: ForkRequest | None = None, *, key: str = "", wait_s: float = 30.0) -> EpisodeView:
        """Another episode that goes on from there; its `branch.agreed` says whether its box answered the steps so far as before."""
        return self._do(calls.fork(episode, request or ForkRequest(), key or _key(), wait_s))

    def close_episode(self, episode: str) -> EpisodeView:
        """Call it off; safe to repeat."""
        return self._do(calls.close_episode(episode))

    def trajectory(self, episode: str) -> Trajectory:
        """What happened in an episode, step by step, with its tokens; also in one of a rollout's."""
        return self._do(calls.trajectory(episode))

    def explanation(self, episode: str) -> Explanation:
        """Why its reward is what it is, in words; with the end of the tests' log for a token with the scope `admin`."""
        return self._do(calls.explanation(episode))

    def blob(self, episode: str, digest: str) -> bytes:
        """What its record keeps by reference: a call's routed experts, as the engine gave them."""
        return self._do(calls.blob(episode, digest))

    def reward(self, request: RewardRequest, *, key: str = "", wait_s: float = 30.0) -> RewardView:
        """Grade a patch, and wait for the outcome however long it takes."""
        key = key or _key()
        while (view := self._do(calls.reward(request, key, wait_s))).outcome is None:
            pass
        return view

    def groups(self, *, rollouts: Sequence[str] = (), lease_s: float = 300.0) -> Iterator[GroupResult]:
        """Finished groups, one at a time, each acknowledged when the next is asked for: what fails in between comes again.

        Of these rollouts, until they are over; without any, of all of the tenant's and without an end. `lease_s` is how long nobody else
        is given the group. One that was given out before, as the last of a loop that was left, says so: see `GroupResult.redelivered`.
        """
        ask = LeaseRequest(lease_s=lease_s, wait_s=20.0 if not rollouts else 5.0, rollouts=tuple(rollouts))
        while True:
            leased = self.lease(ask)
            for group in leased:
                yield group.result
                if (self.acknowledge([group.lease])).lapsed:
                    log.warning("group %s is another caller's since its lease of %g s lapsed: raise lease_s", group.result.group, lease_s)
            if rollouts and not leased and not [run for run in rollouts if self._is_open(run)]:
                return

    def trajectories(self, rollout: str, *, group: str = "", page: int = 20) -> Iterator[EpisodeRecord]:
        """Every episode of a rollout, or of one of its groups, with its steps and tokens."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._do(calls.trajectories(rollout, group, cursor, page))
            yield from found.items
            cursor = found.next

    def tasks(self, wanted: TaskSelector | None = None) -> Iterator[TaskInfo]:
        """The tasks that pass a selector; all valid ones without."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._do(calls.tasks(wanted or TaskSelector(), cursor))
            yield from found.items
            cursor = found.next

    def task(self, name: str) -> TaskDetail:
        """One task with its instruction, by name or digest or the unique beginning of one."""
        return self._do(calls.task(name))

    def datasets(self) -> tuple[str, ...]:
        """`name@version` of each: the tenant's own, and the operator's."""
        return self._do(calls.datasets())

    def dataset(self, name: str) -> DatasetView:
        """One with its splits, by its `name@version`."""
        return self._do(calls.dataset(name))

    def create_dataset(self, request: NewDataset) -> DatasetView:
        """Make one. The same again is no error; other tasks under a known name and version are."""
        return self._do(calls.create_dataset(request))

    def usage(self, asked: UsageQuery | None = None) -> Iterator[UsageLine]:
        """What attempts used, a line per tenant, rollout or episode; of everything that ended, by rollout, where nothing is said."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._do(calls.usage(asked or UsageQuery(), cursor))
            yield from found.items
            cursor = found.next

    def me(self) -> Me:
        """Whose token this is, and what the farm is."""
        return self._do(calls.me())

    def use(self) -> Use:
        """The quota of this token's tenant, and its episodes by state."""
        return self._do(calls.use())

    def tenants(self) -> tuple[Use, ...]:
        """Every tenant. This and what follows, up to the engines, want the scope `admin`."""
        return self._do(calls.tenants())

    def put_tenant(self, tenant: str, quota: Quota) -> Quota:
        """Make a tenant, or give it another quota."""
        return self._do(calls.put_tenant(tenant, quota))

    def issue_token(self, tenant: str, new: NewToken) -> str:
        """A new token, seen this one time. Where an answer is lost and asked for again, there are two of this name."""
        issued = self._do(calls.issue_token(tenant, new))
        return issued.token

    def revoke_token(self, tenant: str, name: str) -> int:
        """Every token of this name is worth nothing from now on; how many there were."""
        revoked = self._do(calls.revoke_token(tenant, name))
        return revoked.revoked

    def cancel_tenant(self, tenant: str) -> Cancelled:
        """Call off all of its work that is not over. A quota with `active_rollouts=0`, put before, refuses more."""
        return self._do(calls.cancel_tenant(tenant))

    def engines(self) -> tuple[EngineSpec, ...]:
        """Which sample for the programs in boxes, without their keys."""
        return self._do(calls.engines())

    def put_engines(self, engines: Sequence[EngineSpec]) -> tuple[EngineSpec, ...]:
        """These and no others from now on. One without `api_key` keeps the key of the one that has its name and url now."""
        return self._do(calls.put_engines(engines))

    def episodes(self, rollout: str) -> Iterator[EpisodeInfo]:
        """Every episode of a rollout with what became of it, in a line each."""
        cursor: str | None = ""
        while cursor is not None:
            found = self._do(calls.episodes(rollout, cursor))
            yield from found.items
            cursor = found.next

    def catalogue(self) -> CatalogueInfo:
        """What bringing a task to this farm takes. This and what follows want the scope `catalogue`."""
        return self._do(calls.catalogue())

    def missing(self, wanted: TasksAndBlobs) -> TasksAndBlobs:
        """Which of these tasks and blobs are not there."""
        return self._do(calls.missing(wanted))

    def put_blob(self, digest: str, data: bytes) -> None:
        """Bring a checkout's archive; one that is there is left alone."""
        self._do(calls.put_blob(digest, data))

    def put_task(self, digest: str, archive: bytes, *, repository: str = "", source_digest: str = "") -> None:
        """Bring a task's archive, as the catalogue packs it; one that is there is left alone."""
        self._do(calls.put_task(digest, archive, {"repository": repository, "source_digest": source_digest}))

    def put_environment(self, task: str, environment: Environment) -> None:
        """Say what the farm's boxes of a task are made of, in place of what was said before."""
        self._do(calls.put_environment(task, environment))

    def put_report(self, task: str, packed: bytes) -> None:
        """Bring a report of the gates, in place of an earlier one of the same provider's boxes unless it says less."""
        self._do(calls.put_report(task, packed))

    def _is_open(self, rollout: str) -> bool:
        view = self.rollout(rollout)
        return view.state == "active" or view.groups.get("ready", 0) > 0


def _key() -> str:
    return secrets.token_hex(16)
