"""`/v1/tenants`: for the operator alone: tenants, their quotas and tokens. And `/v1/me`: whose token one holds."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path

from envfarm.api.access import Farm, Who, scope
from envfarm.api.bodies import PlainJson
from envfarm.core.ids import TenantId
from envfarm.core.listing import Cancelled, Issued, Me, NewToken, Revoked, Use
from envfarm.core.rollout import Quota

router = APIRouter(route_class=PlainJson, tags=["tenants"])
TENANT = r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$"
Tenant = Annotated[TenantId, Path(pattern=TENANT)]
Name = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


@router.get("/v1/me")
async def me(farm: Farm, who: Who) -> Me:
    """The tenant and the scopes of this token, and what the farm is."""
    quotas = await farm.access.quotas()
    return Me(tenant=who.tenant, scopes=tuple(sorted(who.scopes)), quota=quotas[who.tenant], sandbox=farm.sandbox)


@router.get("/v1/me/use")
async def own_use(farm: Farm, who: Who) -> Use:
    """What the tenant of this token uses."""
    return Use(tenant=who.tenant, quota=(await farm.access.quotas())[who.tenant], episodes=(await farm.lists.use()).get(who.tenant, {}))


@router.get("/v1/tenants", dependencies=[scope("admin")])
async def listed(farm: Farm) -> tuple[Use, ...]:
    """Every tenant, and what it uses."""
    used = await farm.lists.use()
    quotas = await farm.access.quotas()
    return tuple(Use(tenant=t, quota=quotas[t], episodes=used.get(t, {})) for t in sorted(quotas))


@router.put("/v1/tenants/{tenant}", dependencies=[scope("admin")])
async def put(farm: Farm, tenant: Tenant, quota: Quota) -> Quota:
    """Make a tenant, or give it another quota."""
    await farm.access.add_tenant(tenant, quota)
    return quota


@router.post("/v1/tenants/{tenant}/tokens", dependencies=[scope("admin")], status_code=HTTPStatus.CREATED)
async def issue(farm: Farm, tenant: Tenant, new: NewToken) -> Issued:
    """A new token. Only its digest is kept."""
    return Issued(token=await farm.access.issue(tenant, new.name, new.scopes))


@router.delete("/v1/tenants/{tenant}/tokens/{name}", dependencies=[scope("admin")])
async def revoke(farm: Farm, tenant: Tenant, name: Name) -> Revoked:
    """Every token of this name."""
    return Revoked(revoked=await farm.access.revoke(tenant, name))


@router.delete("/v1/tenants/{tenant}/rollouts", dependencies=[scope("admin")])
async def cancel(farm: Farm, tenant: Tenant) -> Cancelled:
    """Call off all of its rollouts, step-driven episodes and rewards that are not over. Safe to repeat; it may take minutes.

    It refuses nothing that the tenant asks for afterwards: a quota with `active_rollouts: 0` does.
    """
    return await farm.rollouts.cancel_all(tenant, "the operator stopped the tenant's work")
