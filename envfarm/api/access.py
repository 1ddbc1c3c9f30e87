"""Who asks, and what they may: the dependency of every resource. A request without a good token learns nothing, not even what there is."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from envfarm.api.problems import Unauthorized
from envfarm.api.services import Services
from envfarm.core.errors import Denied, Overloaded
from envfarm.core.ids import TenantId
from envfarm.core.rollout import Principal

_bearer = HTTPBearer(auto_error=False, description="A token of the farm")
WAITING_RETRY_S = 5.0


def services_of(request: Request) -> Services:
    """The services that the app was made with."""
    found: Services = request.app.state.services
    return found


Farm = Annotated[Services, Depends(services_of)]


async def principal(farm: Farm, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> Principal:
    """Whose token came with the request. Raises `Unauthorized`."""
    if given is None:
        raise Unauthorized("a token is needed")
    try:
        return await farm.access.who(given.credentials)
    except Denied as e:
        raise Unauthorized("the token is not known here") from e


Who = Annotated[Principal, Depends(principal)]


def scope(*names: str) -> Any:
    """A dependency: the token has one of these scopes. Raises `Denied`."""

    async def check(who: Who) -> None:
        if who.scopes.isdisjoint(names):
            raise Denied(f"this token lacks the scope {names[0]!r}", hint="ask the operator for one that has it")

    return Depends(check)


class Waiting:
    """How many calls of each tenant are held open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[TenantId, int] = {}

    def check(self, tenant: TenantId) -> None:
        """Raises `Overloaded` where one more would be too many."""
        if self._open.get(tenant, 0) >= self._most:
            raise Overloaded(f"{self._most} waiting calls of this tenant are open", retry_after_s=WAITING_RETRY_S)

    @contextmanager
    def held(self, tenant: TenantId) -> Iterator[None]:
        """Count one, whatever the bound: for streams, which begin after their answer has."""
        self._open[tenant] = self._open.get(tenant, 0) + 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]

    @asynccontextmanager
    async def one(self, tenant: TenantId) -> AsyncIterator[None]:
        """Hold one open. Raises `Overloaded` for one too many."""
        self.check(tenant)
        with self.held(tenant):
            yield


def waiting_of(request: Request) -> Waiting:
    """The app's count of waiting calls."""
    found: Waiting = request.app.state.waiting
    return found


Waits = Annotated[Waiting, Depends(waiting_of)]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="The same key with the same request is one request, however often it is sent; with another request it is a conflict.",
    ),
]
