"""Tenants, their quotas and their tokens. Of a token only its digest is kept: who reads the database cannot act for anybody.

Called by the API for every request, and by whoever starts a service.
"""

import hashlib
import secrets
from collections.abc import Set as AbstractSet

from sqlalchemy import Connection, Engine, delete, select, update

from envfarm.core.errors import Denied, NotFound, UsageError
from envfarm.core.ids import TenantId
from envfarm.core.protocols import Clock
from envfarm.core.rollout import Principal, Quota
from envfarm.stores.episode_schema import TENANTS, TOKENS
from envfarm.stores.sql import Sql, insert_if_new, insert_new

SCOPES = frozenset({"rollouts", "episodes", "rewards", "tasks", "datasets", "policies", "catalogue", "metrics", "admin"})
TOKEN_PREFIX = "envfarm-"  # noqa: S105 - so that a leaked one is recognised


class SqlAccess:
    """The tenants of one database."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._sql = Sql(engine)
        self._clock = clock

    async def add_tenant(self, tenant: TenantId, quota: Quota) -> None:
        """Make a tenant, or give a known one another quota."""

        def work(c: Connection) -> None:
            row = {"id": tenant, "quota": quota.model_dump_json(), "created_at": self._clock.now().isoformat()}
            if not insert_if_new(c, TENANTS, row):
                c.execute(update(TENANTS).where(TENANTS.c.id == tenant).values(quota=row["quota"]))

        await self._sql.write("add a tenant", work)

    async def quotas(self) -> dict[TenantId, Quota]:
        """Every tenant's."""
        rows = await self._sql.read("quotas", lambda c: c.execute(select(TENANTS.c.id, TENANTS.c.quota)).all())
        return {TenantId(row.id): Quota.model_validate_json(row.quota) for row in rows}

    async def widen(self, tenant: TenantId, name: str, scopes: AbstractSet[str]) -> None:
        """Give every token of this name these scopes: a newer farm has some that it was not issued with."""
        change = update(TOKENS).where(TOKENS.c.tenant == tenant, TOKENS.c.name == name).values(scopes=" ".join(sorted(scopes)))
        await self._sql.write("widen a token", lambda c: c.execute(change))

    async def issue(self, tenant: TenantId, name: str, scopes: AbstractSet[str], *, token: str = "") -> str:
        """A new token (or this one, which is kept as it was where it is known). Raises `UsageError` for a scope that there is not."""
        if unknown := sorted(scopes - SCOPES):
            raise UsageError(f"no scope {unknown[0]!r}", hint=f"there are {', '.join(sorted(SCOPES))}")
        token = token or TOKEN_PREFIX + secrets.token_urlsafe(32)

        def work(c: Connection) -> None:
            if c.execute(select(TENANTS.c.id).where(TENANTS.c.id == tenant)).one_or_none() is None:
                raise NotFound(f"no tenant {tenant!r}")
            row = {"digest": _digest(token), "tenant": tenant, "name": name, "scopes": " ".join(sorted(scopes))}
            insert_new(c, TOKENS, [row | {"created_at": self._clock.now().isoformat()}])

        await self._sql.write("issue a token", work)
        return token

    async def revoke(self, tenant: TenantId, name: str) -> int:
        """Every token of this name is worth nothing from now on; how many."""
        gone = delete(TOKENS).where(TOKENS.c.tenant == tenant, TOKENS.c.name == name)
        return await self._sql.write("revoke", lambda c: c.execute(gone).rowcount)

    async def who(self, token: str) -> Principal:
        """Whose token it is. Raises `Denied`."""
        query = select(TOKENS.c.tenant, TOKENS.c.scopes).where(TOKENS.c.digest == _digest(token))
        row = await self._sql.read("who", lambda c: c.execute(query).one_or_none())
        if row is None:
            raise Denied("the token is not known here", hint="send it as `Authorization: Bearer …`")
        return Principal(tenant=row.tenant, scopes=frozenset(row.scopes.split()))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
