"""What is to be played next, who plays it, and what it came to: the hosts' side of rollouts.

Called by the service's controller. Whether something may start now is decided in `scheduling.admission`; here stands what is true:
an episode has one host, a group one policy version, an outcome is stored once.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from sqlalchemy import Column, ColumnElement, Connection, Engine, Row, and_, bindparam, func, select, update

from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import StoreError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, TaskDigest, TenantId
from envfarm.core.outcome import Outcome
from envfarm.core.protocols import Clock
from envfarm.core.storable import told
from envfarm.core.usage import Grant, Usage
from envfarm.stores.episode_schema import EPISODES, GROUPS, POLICIES, ROLLOUTS
from envfarm.stores.episodes import Claim
from envfarm.stores.leases import HostLease, holds
from envfarm.stores.outcome_rows import commit, encoded, reward_of
from envfarm.stores.rollout_rows import IS_PENDING, IS_UNFINISHED, Event, begin_again, finish_group, lock_policy, lock_rollout, tell
from envfarm.stores.sql import CHUNK, Sql, db_now
from envfarm.stores.usage import AttemptId, begin, close


class Share(Frozen):
    """Which part of the queue a host takes, by the policy that plays (not the one whose versions count). All of it by default."""

    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()

    def taken(self, player: Column[str]) -> list[ColumnElement[bool]]:
        """As conditions on who plays."""
        found: list[ColumnElement[bool]] = [] if self.only is None else [player.in_(sorted(self.only))]
        return found + ([player.not_in(sorted(self.never))] if self.never else [])

    def takes(self, player: str) -> bool:
        """Whether it holds what this one plays."""
        return (self.only is None or player in self.only) and player not in self.never


EVERYTHING = Share()
NOTHING = Usage()
Standing = Literal["mine", "called off", "another's"]
"""How a claim stands: still its host's, called off by somebody, or taken over (or gone)."""
_ANOTHERS: Standing = "another's"


class Load(Frozen):
    """How much there is to play."""

    waiting: int
    """Episodes that are due, of policies that are not paused."""
    playing: int


class Waiting(Frozen):
    """An episode that could be played."""

    episode: EpisodeId
    tenant: TenantId
    policy: str
    player: str
    task: TaskDigest


class Claimed(Frozen):
    """What a host got of what it asked for."""

    claims: tuple[Claim, ...]
    fenced: bool
    """The host's lease is gone: it must let go of everything."""


class _Fenced(StoreError):  # noqa: N818 - a state, as in `BoxLost`
    """Rolls back what a host took whose lease is gone."""


class Lengths(Frozen):
    """How much there is of what, over all tenants."""

    pending: int
    running: int
    ready_groups: int
    """Finished, and not acknowledged."""


class SqlRolloutQueue:
    """The queue of one database."""

    def __init__(self, engine: Engine, clock: Clock, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._sql = Sql(engine)
        self._clock = clock
        self._faults = faults

    async def waiting(self, *, each: int, share: Share = EVERYTHING, but: Collection[TaskDigest] = ()) -> tuple[Waiting, ...]:
        """The first episodes that are due, at most `each` per tenant and policy that is not paused, oldest first.

        All `but` those of some tasks, at most `CHUNK`.
        """

        def ask(c: Connection) -> tuple[Waiting, ...]:
            active = select(ROLLOUTS.c.tenant, ROLLOUTS.c.policy).where(ROLLOUTS.c.state == "active", *share.taken(ROLLOUTS.c.player))
            flows = active.distinct().subquery()
            # Of those that are played alone: tenants may have paused many more.
            paused = select(POLICIES.c.name).where(
                POLICIES.c.tenant == flows.c.tenant, POLICIES.c.name == flows.c.policy, POLICIES.c.paused != 0
            )
            going = select(flows).where(~paused.exists()).order_by(flows.c.tenant, flows.c.policy)
            # Written once: of a tenant's hundreds of policies, saying it anew would take longer than asking.
            due = select(EPISODES.c.id, EPISODES.c.task, EPISODES.c.player).where(
                EPISODES.c.tenant == bindparam("t"), EPISODES.c.policy == bindparam("p")
            )
            due = due.where(IS_PENDING, EPISODES.c.due <= select(db_now()).scalar_subquery(), *share.taken(EPISODES.c.player))
            due = due.where(EPISODES.c.task.not_in(sorted(but)[:CHUNK])) if but else due
            due = due.order_by(EPISODES.c.due, EPISODES.c.position).limit(each)
            found: list[Waiting] = []
            for tenant, policy in c.execute(going).all():
                rows = c.execute(due, {"t": tenant, "p": policy})
                found += [Waiting(episode=r.id, tenant=tenant, policy=policy, player=r.player, task=r.task) for r in rows]
            return tuple(found)

        return await self._sql.read("waiting", ask)

    async def lengths(self) -> Lengths:
        """How much waits, is played, and is to be fetched."""

        def ask(c: Connection) -> Lengths:
            states = select(EPISODES.c.state, func.count()).where(EPISODES.c.tenant != "", IS_UNFINISHED)
            found = {row[0]: row[1] for row in c.execute(states.group_by(EPISODES.c.state))}
            ready = c.scalar(select(func.count()).where(GROUPS.c.state == "ready"))
            return Lengths(pending=found.get("pending", 0), running=found.get("running", 0), ready_groups=ready or 0)

        return await self._sql.read("lengths", ask)

    async def load(self, share: Share = EVERYTHING) -> Load:
        """How much of this share waits, and how much is played."""

        def ask(c: Connection) -> Load:
            mine = select(func.count()).select_from(EPISODES).join(ROLLOUTS, ROLLOUTS.c.id == EPISODES.c.run_id)
            mine = mine.where(EPISODES.c.tenant != "", ROLLOUTS.c.state == "active", *share.taken(ROLLOUTS.c.player))
            flow = and_(POLICIES.c.tenant == ROLLOUTS.c.tenant, POLICIES.c.name == ROLLOUTS.c.policy, POLICIES.c.paused != 0)
            paused = select(POLICIES.c.name).where(flow).exists()
            waiting = c.scalar(mine.where(EPISODES.c.state == "pending", EPISODES.c.due <= db_now(), ~paused))
            return Load(waiting=waiting or 0, playing=c.scalar(mine.where(EPISODES.c.state == "running")) or 0)

        return await self._sql.read("load", ask)

    async def live(self, tenants: Collection[TenantId]) -> dict[TenantId, int]:
        """How many episodes of each of these tenants are played now, by all hosts together."""

        def ask(c: Connection) -> dict[TenantId, int]:
            running = select(EPISODES.c.tenant, func.count()).where(IS_UNFINISHED, EPISODES.c.state == "running")
            found = {row[0]: row[1] for row in c.execute(running.where(EPISODES.c.tenant.in_(tenants)).group_by(EPISODES.c.tenant))}
            return {tenant: found.get(tenant, 0) for tenant in tenants}

        return await self._sql.read("live", ask)

    async def next_due_s(self) -> float | None:
        """Seconds until an episode becomes due that is not yet; None where there is none."""

        def ask(c: Connection) -> float | None:
            # The time as a query of its own: what changes from row to row is looked for in no index.
            later = select(func.min(EPISODES.c.due) - db_now()).where(
                EPISODES.c.tenant != "", IS_PENDING, EPISODES.c.due > select(db_now()).scalar_subquery()
            )
            found = c.scalar(later)
            return None if found is None else max(float(found), 0.0)

        return await self._sql.read("next due", ask)

    async def claim(self, lease: HostLease, episodes: Sequence[EpisodeId], grants: Mapping[EpisodeId, Grant] | None = None) -> Claimed:
        """Take these, those of them that are still to be had and whose policy is not paused.

        A group whose version is no longer the present one begins anew instead.

        `grants` says what their boxes will have, for the bill of attempts whose host dies.
        """
        self._faults.reach("episode claim")

        def work(c: Connection) -> Claimed:
            wanted = select(EPISODES.c.id, EPISODES.c.run_id).where(EPISODES.c.id.in_(list(episodes)[:CHUNK]))
            rows = c.execute(wanted.order_by(EPISODES.c.run_id, EPISODES.c.position)).all()
            claims = tuple(
                claim
                for rollout, those in groupby(rows, key=lambda row: str(row.run_id))
                for claim in self._take(c, rollout, [row.id for row in those], lease)
            )
            begin(c, {attempt_of(claim): (grants or {}).get(claim.spec.episode_id, Grant()) for claim in claims}, lease.host)
            # Last: this holds the lease's row, and a renewal would wait for it as long as this waits for a rollout's.
            if not holds(c, lease):
                raise _Fenced("the lease is gone")
            return Claimed(claims=claims, fenced=False)

        try:
            return await self._sql.write("claim", work)
        except _Fenced:
            return Claimed(claims=(), fenced=True)

    def _take(self, c: Connection, rollout_id: str, episodes: Sequence[str], lease: HostLease) -> list[Claim]:
        """Of one rollout: what all of it needs to know is asked and told once."""
        # The policy before its rollouts, as in `policy_versions`: else two transactions could wait for each other.
        flow = c.execute(select(ROLLOUTS.c.tenant, ROLLOUTS.c.policy).where(ROLLOUTS.c.id == rollout_id)).one()
        policy = lock_policy(c, flow.tenant, flow.policy, read=True)
        rollout, version = lock_rollout(c, rollout_id), policy.version
        if policy.paused or rollout is None or rollout.state != "active":
            return []
        more = {"tenant": rollout.tenant, "policy_name": rollout.policy, "version": version}
        rows = [row for row in (self._take_one(c, episode, version, lease) for episode in episodes) if row is not None]
        tell(c, rollout_id, [Event("started", {"episode": row.id, "attempts": row.attempts, "version": version}) for row in rows])
        specs = [EpisodeSpec.model_validate_json(row.spec) for row in rows]
        own = [{"attempts": row.attempts, "epoch": row.epoch, "deaths": row.deaths} for row in rows]
        return [Claim(spec=spec, **each, **more) for spec, each in zip(specs, own, strict=True)]

    def _take_one(self, c: Connection, episode: str, version: int, lease: HostLease) -> Row[Any] | None:
        group_of = select(EPISODES.c.group_id).where(EPISODES.c.id == episode, EPISODES.c.state == "pending")
        group = c.execute(select(GROUPS).where(GROUPS.c.id == group_of.scalar_subquery())).one_or_none()
        if group is None:
            return None
        if group.version is not None and group.version != version:
            why = f"version {version} came before all members of version {group.version} were played"
            begin_again(c, group, why, self._at())
            return None
        taken = update(EPISODES).where(EPISODES.c.id == episode).values(state="running", owner=lease.host, epoch=EPISODES.c.epoch + 1)
        if group.version is None:
            c.execute(update(GROUPS).where(GROUPS.c.id == group.id).values(state="playing", version=version))
        return c.execute(taken.returning(EPISODES.c.id, EPISODES.c.spec, EPISODES.c.attempts, EPISODES.c.epoch, EPISODES.c.deaths)).one()

    async def settle(self, claim: Claim, outcome: Outcome, used: Usage = NOTHING) -> bool:
        """Store what the episode came to, and what follows for its group. False for who was fenced, or for an outcome that is there.

        What the attempt used is kept in any case: whoever was fenced had its boxes, too.
        Raises `StoreError` for an outcome that does not survive being stored.
        """
        episode = claim.spec.episode_id
        encoded(episode, outcome)
        self._faults.reach("outcome commit")

        def work(c: Connection) -> bool:
            rollout = lock_rollout(c, claim.spec.run_id)
            close(c, attempt_of(claim), used)
            if rollout is None or not commit(c, episode, outcome, epoch=claim.epoch, at=self._at()):
                return False
            tell(c, rollout.id, [Event("ended", {"episode": episode, "kind": outcome.kind, "reward": reward_of(outcome)})])
            finish_group(c, rollout, self._group(c, episode))
            return True

        return await self._sql.write("settle", work)

    async def put_back(self, claim: Claim, *, detail: str, attempts: int, wait_s: float = 0.0, used: Usage = NOTHING) -> bool:
        """Make it pending again, due after a wait. False for who was fenced. With more attempts than before it is told as a retry.

        What the attempt used is kept as `settle` does.
        """

        def work(c: Connection) -> bool:
            lock_rollout(c, claim.spec.run_id)
            close(c, attempt_of(claim), used)
            episode = claim.spec.episode_id
            mine = (EPISODES.c.id == episode, EPISODES.c.state == "running", EPISODES.c.epoch == claim.epoch)
            values = {"state": "pending", "owner": None, "detail": told(detail), "attempts": attempts, "due": db_now() + wait_s}
            if c.execute(update(EPISODES).where(*mine).values(**values)).rowcount == 0:
                return False
            if attempts > claim.attempts:
                tell(c, claim.spec.run_id, [Event("retrying", {"episode": episode, "attempts": attempts, "why": told(detail)[:500]})])
            return True

        return await self._sql.write("put back", work)

    async def standing(self, claims: Sequence[Claim]) -> dict[EpisodeId, Standing]:
        """How each of these claims stands."""

        def ask(c: Connection) -> dict[EpisodeId, Standing]:
            epochs = {claim.spec.episode_id: claim.epoch for claim in claims}
            ids, found = list(epochs), dict.fromkeys(epochs, _ANOTHERS)
            for at in range(0, len(ids), CHUNK):
                rows = select(EPISODES.c.id, EPISODES.c.epoch, EPISODES.c.state).where(EPISODES.c.id.in_(ids[at : at + CHUNK]))
                for row in c.execute(rows):
                    if row.state == "running" and row.epoch == epochs[row.id]:
                        found[row.id] = "mine"
                    elif row.state == "cancelled":
                        found[row.id] = "called off"
            return found

        return await self._sql.read("standing", ask)

    async def strays(self, host: str, playing: Collection[tuple[EpisodeId, int]]) -> list[Claim]:
        """What stands as played by this host, and is not among what it says that it plays: episodes with their epochs."""

        def ask(c: Connection) -> list[Claim]:
            mine = (EPISODES.c.owner == host, EPISODES.c.state == "running", EPISODES.c.tenant != "")
            found = c.execute(select(EPISODES.c.id, EPISODES.c.epoch).where(*mine)).all()
            lost = [row.id for row in found if (row.id, row.epoch) not in playing][:CHUNK]
            query = select(EPISODES, ROLLOUTS.c.policy).join(ROLLOUTS, ROLLOUTS.c.id == EPISODES.c.run_id)
            return [_claim(row) for row in c.execute(query.where(EPISODES.c.id.in_(lost), *mine))] if lost else []

        return await self._sql.read("strays", ask)

    def _group(self, c: Connection, episode: EpisodeId) -> Row[tuple[object, ...]]:
        return c.execute(select(GROUPS).join(EPISODES, EPISODES.c.group_id == GROUPS.c.id).where(EPISODES.c.id == episode)).one()

    def _at(self) -> str:
        return self._clock.now().isoformat()


def _claim(row: Row[Any]) -> Claim:
    spec, own = EpisodeSpec.model_validate_json(row.spec), {"attempts": row.attempts, "epoch": row.epoch, "deaths": row.deaths}
    return Claim(spec=spec, tenant=TenantId(row.tenant), policy_name=row.policy, **own)


def attempt_of(claim: Claim) -> AttemptId:
    """The attempt that a claim begins."""
    spec = claim.spec
    who = {"episode_id": spec.episode_id, "run_id": spec.run_id, "tenant": claim.tenant}
    return AttemptId(**who, epoch=claim.epoch, attempt=claim.attempts)
