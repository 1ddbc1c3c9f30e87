"""The versions of tenants' policies: moved on, paused, aborted, each in one transaction with what it means for groups in flight."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, or_, select, update

from envfarm.core.errors import Conflict
from envfarm.core.ids import EpisodeId, TenantId
from envfarm.core.protocols import Clock
from envfarm.core.rollout import PolicyState, Quota
from envfarm.stores.episode_schema import GROUPS, POLICIES, ROLLOUTS, TENANTS
from envfarm.stores.rollout_rows import begin_again, let_go_of_policy, lock_policy, lock_rollout
from envfarm.stores.sql import Sql


class SqlPolicies:
    """The policies of one database."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._sql = Sql(engine)
        self._clock = clock

    async def get(self, tenant: TenantId, name: str) -> PolicyState:
        """A policy that was never told of has version 0."""

        def ask(c: Connection) -> PolicyState:
            row = c.execute(select(POLICIES).where(POLICIES.c.tenant == tenant, POLICIES.c.name == name)).one_or_none()
            following = (ROLLOUTS.c.tenant == tenant, ROLLOUTS.c.policy == name, ROLLOUTS.c.state == "active")
            rollouts = c.execute(select(func.count()).select_from(ROLLOUTS).where(*following)).scalar_one()
            known = {"version": row.version, "paused": bool(row.paused)} if row else {"version": 0, "paused": False}
            return PolicyState(name=name, rollouts=rollouts, **known)

        return await self._sql.read("policy", ask)

    async def move_on(self, tenant: TenantId, name: str, version: int) -> list[EpisodeId]:
        """The policy has this version now. Groups too far behind begin anew; their episodes that were in flight.

        The same version again changes nothing; raises `Conflict` for a lower one, and for a new name where the tenant's quota is full.
        """

        def work(c: Connection) -> list[EpisodeId]:
            known = lock_policy(c, tenant, name, read=False)
            if version < known.version:
                hint = f"GET /v1/policies/{name} has the newest: announce a higher one, or begin with another `policy_name`, which is at 0"
                raise Conflict(f"the policy {name!r} has version {known.version}, and versions never go back", hint=hint)
            self._change(c, known, version=version)
            why = f"version {version} came"
            return self._again(c, tenant, name, why, lambda rollout, group: version - group.version > rollout.window)

        return await self._sql.write("new policy version", work)

    async def pause(self, tenant: TenantId, name: str, *, paused: bool) -> None:
        """Start no further episodes of it, or go on. What is in flight is left alone.

        Raises `Conflict` for a new name where the tenant's quota is full.
        """

        def work(c: Connection) -> None:
            self._change(c, lock_policy(c, tenant, name, read=False), paused=int(paused))

        await self._sql.write("pause", work)

    async def abort(self, tenant: TenantId, name: str) -> list[EpisodeId]:
        """Every group of it that is being played begins anew; their episodes that were in flight."""

        def work(c: Connection) -> list[EpisodeId]:
            self._change(c, lock_policy(c, tenant, name, read=False))
            return self._again(c, tenant, name, "the trainer aborted what was in flight", lambda _, __: True)

        return await self._sql.write("abort", work)

    def _change(self, c: Connection, row: Row[Any], **to: int) -> None:
        """Set these of a policy's row, which is locked. Kept is what is not as if it had never been told of. Raises `Conflict`."""
        after = {"version": row.version, "paused": row.paused} | to
        if any(after.values()) and not (row.version or row.paused):
            _check_room(c, row.tenant)
        c.execute(update(POLICIES).where(POLICIES.c.tenant == row.tenant, POLICIES.c.name == row.name).values(**after))
        if not any(after.values()):
            let_go_of_policy(c, row.tenant, row.name)

    def _again(self, c: Connection, tenant: str, name: str, why: str, which: Callable[[Row[Any], Row[Any]], bool]) -> list[EpisodeId]:
        active = select(ROLLOUTS.c.id).where(ROLLOUTS.c.state == "active", ROLLOUTS.c.tenant == tenant, ROLLOUTS.c.policy == name)
        flying: list[EpisodeId] = []
        playing = active.where(select(GROUPS.c.id).where(GROUPS.c.rollout_id == ROLLOUTS.c.id, GROUPS.c.state == "playing").exists())
        for rollout_id in list(c.scalars(playing.where(ROLLOUTS.c.kind == "rollout").order_by(ROLLOUTS.c.id))):
            rollout = lock_rollout(c, rollout_id)
            if rollout is None or rollout.state != "active":
                continue
            for group in c.execute(select(GROUPS).where(GROUPS.c.rollout_id == rollout_id, GROUPS.c.state == "playing")).all():
                if which(rollout, group):
                    flying += begin_again(c, group, why, self._clock.now().isoformat())
        return flying


def _check_room(c: Connection, tenant: str) -> None:
    most = Quota.model_validate_json(c.execute(select(TENANTS.c.quota).where(TENANTS.c.id == tenant)).scalar_one()).remembered_policies
    kept = (POLICIES.c.tenant == tenant, or_(POLICIES.c.version > 0, POLICIES.c.paused != 0))
    if c.execute(select(func.count()).select_from(POLICIES).where(*kept)).scalar_one() >= most:
        hint = "go on with a name that has a version, or resume one at version 0; the operator can raise the quota `remembered_policies`"
        raise Conflict(f"the tenant has {most} policy names that have a version or are paused, and may have no more", hint=hint)
