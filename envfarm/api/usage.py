"""`/v1/usage`: what episodes cost, for bills and for finding waste. A tenant sees its own alone."""

import base64
import json
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field, TypeAdapter, ValidationError

from envfarm.api.access import Farm, Who
from envfarm.core.errors import Denied, UsageError
from envfarm.core.usage import UsagePage, UsageQuery
from envfarm.stores.usage import KEYS, UsageAsked

router = APIRouter(prefix="/v1/usage", tags=["usage"])
_NAMES: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


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
        after=_names(asked.cursor, len(KEYS[asked.by])),
        limit=asked.limit,
    )
    found = await farm.usage.lines(wanted)
    if len(found) < asked.limit:
        return UsagePage(items=found)
    names = [name for name in (found[-1].tenant, found[-1].rollout, found[-1].episode) if name is not None]
    return UsagePage(items=found, next=base64.urlsafe_b64encode(json.dumps(names).encode()).decode())


def _names(cursor: str, many: int) -> tuple[str, ...]:
    if not cursor:
        return ()
    try:
        names = _NAMES.validate_json(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, ValidationError):
        names = ()
    if len(names) != many:
        raise UsageError("the cursor is not one of this farm's for these lines", hint="begin without one")
    return names
