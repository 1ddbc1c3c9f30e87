"""`/v1/usage`: what episodes cost, for bills and for finding waste. A tenant sees its own alone."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter

from envfarm.api.access import Farm, Who
from envfarm.api.cursors import decode, encode
from envfarm.core.errors import Denied
from envfarm.core.usage import UsageBy, UsagePage, UsageQuery
from envfarm.stores.usage import KEYS, UsageAsked

router = APIRouter(prefix="/v1/usage", tags=["usage"])
_NAMES: dict[UsageBy, TypeAdapter[tuple[str, ...]]] = {
    by: TypeAdapter(Annotated[tuple[str, ...], Field(min_length=len(keys), max_length=len(keys))]) for by, keys in KEYS.items()
}
"""The last line's, by what there is a line per."""


class UsagePageQuery(UsageQuery):
    """Which lines, and where the list goes on."""

    cursor: str = Field(default="", max_length=1000)
    limit: int = Field(default=100, ge=1, le=1000)


@router.get("")
async def listed(farm: Farm, who: Who, asked: Annotated[UsagePageQuery, Query()]) -> UsagePage:
    """What the attempts that ended in a window used, in vCPU seconds, GiB seconds and bytes: a line per tenant, rollout or episode."""
    if asked.everyone and "admin" not in who.scopes:
        raise Denied("this token lacks the scope 'admin'", hint="without `everyone` it is the tenant's own use")
    wanted = UsageAsked(
        tenant=None if asked.everyone else who.tenant,
        by=asked.by,
        since=asked.since,
        until=asked.until,
        rollout=asked.rollout,
        after=decode(_NAMES[asked.by], asked.cursor, ()),
        limit=asked.limit,
    )
    found = await farm.usage.lines(wanted)
    if len(found) < asked.limit:
        return UsagePage(items=found)
    names = [name for name in (found[-1].tenant, found[-1].rollout, found[-1].episode) if name is not None]
    return UsagePage(items=found, next=encode(names))
