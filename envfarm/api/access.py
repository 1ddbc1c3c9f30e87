"""Who asks, and what they may: the dependency of every resource. A request without a good token learns nothing, not even what there is.

Nothing of its body is read either.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Security
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from envfarm.api.problems import Stopping, of_error, unauthorized
from envfarm.api.services import Services
from envfarm.core.errors import Denied, EnvfarmError, Overloaded
from envfarm.core.ids import TenantId
from envfarm.core.rollout import Principal
from envfarm.stores.access import SqlAccess

_bearer = HTTPBearer(auto_error=False, description="A token of the farm")
GUARDED = ("/v1/", "/metrics")
"""Where paths begin that need a token: those of every resource."""
WAITING_RETRY_S = 5.0


class Authentication:
    """Middleware: answers 401 to a call of a resource without a known token, before its body is received."""

    def __init__(self, app: ASGIApp, access: SqlAccess) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith(GUARDED):
            await self._app(scope, receive, send)
            return
        scheme, token = get_authorization_scheme_param(Headers(scope=scope).get("authorization"))
        if scheme.lower() != "bearer" or not token:
            await unauthorized("a token is needed", hint="send `Authorization: Bearer TOKEN`")(scope, receive, send)
            return
        try:
            found = await self._access.who(token)
        except Denied:
            hint = "`envfarm serve` prints the operator's token, who issues others"
            await unauthorized("the token is not known here", hint=hint)(scope, receive, send)
        except EnvfarmError as e:
            await of_error(e)(scope, receive, send)
        else:
            scope.setdefault("state", {})[_PRINCIPAL] = found
            await self._app(scope, receive, send)


_PRINCIPAL = "principal"


def whose(scope: Scope) -> Principal | None:
    """Who makes a call; None of one that needs no token."""
    found: Principal | None = scope.get("state", {}).get(_PRINCIPAL)
    return found


def services_of(request: Request) -> Services:
    """The services that the app was made with."""
    found: Services = request.app.state.services
    return found


Farm = Annotated[Services, Depends(services_of)]


def principal(request: Request, _: Annotated[object, Security(_bearer)]) -> Principal:
    """Whose token came with the request, as `Authentication` found out."""
    found = whose(request.scope)
    if found is None:
        raise RuntimeError(f"{request.url.path} is a resource, and not guarded")
    return found


Who = Annotated[Principal, Depends(principal)]


def scope(*names: str) -> Any:
    """A dependency: the token has one of these scopes. Raises `Denied`."""

    async def check(who: Who) -> None:
        if who.scopes.isdisjoint(names):
            raise Denied(f"this token lacks the scope {names[0]!r}", hint="ask the operator for one that has it")

    return Depends(check)


class Waiting:
    """How many calls of each tenant are held open, and the end of all of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: dict[TenantId, int] = {}
        self._calls: set[asyncio.Timeout] = set()
        self.stopping = asyncio.Event()
        """The service stops: streams end."""

    def stop(self) -> None:
        """Have every waiting call answered at once: whoever waits goes on at the next service."""
        self.stopping.set()
        for call in self._calls:
            call.reschedule(asyncio.get_running_loop().time())

    def check(self, tenant: TenantId) -> None:
        """Raises `Overloaded` where one more would be too many, `Stopping` where the service stops."""
        if self.stopping.is_set():
            raise Stopping
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
        """Hold one open. Raises `Overloaded` for one too many, `Stopping` where the service stops meanwhile."""
        self.check(tenant)
        call = asyncio.timeout(None)
        try:
            async with call:
                self._calls.add(call)
                with self.held(tenant):
                    yield
        except TimeoutError as e:
            if call.expired():
                raise Stopping from e
            raise
        finally:
            self._calls.discard(call)


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
