"""The type of a conformance check, and the helper functions that checks are written with."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol

from envfarm.core.errors import SandboxError
from envfarm.core.image import BlobRef
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec

CAPABILITIES = frozenset({"programs", "walls", "limits", "network", "no device", "fencing"})
"""`programs`: a real sh and coreutils; `walls`: processes and files are isolated; `limits`: memory, processes, disk; `network`: nothing is
reachable; `no device`: there is no network device either; `fencing`: clients have epochs."""


class ConformanceFailure(AssertionError):  # noqa: N818 - an assertion, named for what it says
    """A provider violates the contract."""


class SpecFactory(Protocol):
    """What a provider's tests provide for the checks."""

    def spec(self) -> SandboxSpec:
        """The spec of a small box that the provider can create, with its own work dir that the agent may write to."""
        ...

    async def blob(self, archive: bytes) -> BlobRef:
        """Store a blob where the provider finds it."""
        ...

    async def boxes(self) -> Collection[str]:
        """The ids of the boxes that are there, by what is seen of them from outside: the provider is not asked."""
        ...


class Check(NamedTuple):
    """One property of every provider with the capabilities."""

    name: str
    run: Callable[[SandboxProvider, SpecFactory], Awaitable[None]]
    needs: frozenset[str] = frozenset()


def check(run: Callable[[SandboxProvider, SpecFactory], Awaitable[None]], *needs: str) -> Check:
    """A check, named after its function."""
    return Check(getattr(run, "__name__", "check"), run, frozenset(needs))


def expect(held: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
    """Fail with `what` unless `held`."""
    if not held:
        raise ConformanceFailure(what)


def same(seen: object, wanted: object, what: str) -> None:
    """Fail unless both are equal."""
    expect(seen == wanted, f"{what}: {seen!r} instead of {wanted!r}")


async def refused(call: Awaitable[object], what: str, error: type[Exception] = SandboxError) -> None:
    """Fail unless the call raises this error."""
    try:
        await call
    except error:
        return
    raise ConformanceFailure(f"{what} did not raise {error.__name__}")


@asynccontextmanager
async def box_of(provider: SandboxProvider, spec: SandboxSpec) -> AsyncIterator[Box]:
    """A box that is closed after the block."""
    box = await provider.create(spec)
    try:
        yield box
    finally:
        await box.close()


async def shell(box: Box, command: str, *, timeout_s: float = 30.0, session: str = "") -> ExecResult:
    """Run a command line as the agent."""
    return await box.exec(ExecRequest(shell=command, timeout_s=timeout_s, session=session))


async def said(box: Box, command: str, *, session: str = "") -> str:
    """The stripped standard output of a command line that must succeed."""
    result = await shell(box, command, session=session)
    expect(result.ok, f"`{command}` ended with {result.exit_code} (signal {result.signal}): {result.text[-500:]}")
    return result.stdout.decode().strip()


async def is_usable(box: Box) -> None:
    """Fail unless the box runs commands and takes files, soon after an attack."""
    started = time.monotonic()
    same(await said(box, "echo alive && echo x >after && cat after"), "alive\nx", "a command after an attack")
    expect(time.monotonic() - started < 5, "a command after an attack takes over five seconds")
