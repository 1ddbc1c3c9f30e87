"""The gateway: its open episodes, its engines, and what the farm asks of it.

`app` puts it before the agents. The box of an episode gets the token that `open` gives, and nothing else: the engines' addresses and keys
stay here.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import aiohttp

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import GatewayError
from envfarm.core.ids import EpisodeId
from envfarm.core.observing import UNOBSERVED, Observer
from envfarm.core.program import Allowance
from envfarm.core.protocols import BlobStore, Clock
from envfarm.core.sampled import Sampled
from envfarm.gateway.engines import registry
from envfarm.gateway.intake import Room
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.problems import Refused
from envfarm.gateway.routing import Routing
from envfarm.gateway.session import Session, Shared
from envfarm.gateway.tokenizer import ChatTokenizer

TOKEN_BYTES = 32
REQUESTS_EACH = 2
"""So many of the largest requests of one episode are read at once."""
WORKERS = 2
"""Threads for large requests, of all episodes together."""


class Gateway:
    """Every open episode's way to the policy."""

    def __init__(
        self,
        tokenizer: ChatTokenizer,
        http: aiohttp.ClientSession,
        *,
        clock: Clock,
        blobs: BlobStore | None = None,
        options: GatewayOptions | None = None,
        observer: Observer = UNOBSERVED,
    ) -> None:
        """`http` calls the engines, is an `engine_session`, shared, and closed by who made it."""
        self.options = options or GatewayOptions()
        self._http = http
        self._routing = Routing()
        self._sessions: dict[EpisodeId, tuple[bytes, Session]] = {}
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="gateway")
        self._shared = Shared(
            tokenizer,
            self._routing,
            clock,
            blobs,
            self.options,
            workers=self._workers,
            room=Room(self.options.requests_bytes, REQUESTS_EACH * self.options.request_bytes),
            observer=observer,
        )

    def set_engines(self, specs: Iterable[EngineSpec]) -> None:
        """The engines from now on. Calls that run go on; episodes whose engine is still in the list stay there.

        Raises `GatewayError` for two of one name.
        """
        engines = [registry.make(spec, self._http, self.options.patience) for spec in specs]
        names = [e.spec.name for e in engines]
        if len(set(names)) != len(names):
            raise GatewayError(f"two engines have one name: {', '.join(sorted(names))}")
        self._routing.set(engines)

    @property
    def engines(self) -> tuple[EngineSpec, ...]:
        """All that are listed."""
        return tuple(engine.spec for engine in self._routing.engines)

    def open(self, episode: EpisodeId, allowance: Allowance) -> str:
        """Let an episode's agent call, with this token. Raises `GatewayError` when it may already, or too many do."""
        if episode in self._sessions:
            raise GatewayError(f"episode {episode} is open already")
        if len(self._sessions) >= self.options.sessions:
            raise GatewayError(f"{self.options.sessions} episodes are open")
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[episode] = (_secret(token), Session(episode, allowance, self._shared, salt=secrets.token_hex(8)))
        return token

    def session(self, episode: EpisodeId, token: str) -> Session:
        """An episode's session for whoever has its token. Raises `Refused`, the same for a wrong token and an unknown episode."""
        secret, session = self._sessions.get(episode, (b"", None))
        if not hmac.compare_digest(secret, _secret(token)) or session is None:
            raise Refused("unauthorized", "the token is not that of an open episode")
        return session

    async def close(self, episode: EpisodeId) -> Sampled:
        """End an episode's calls, forget it, and give what a trainer receives. Raises `GatewayError` when it is not open."""
        if (found := self._sessions.pop(episode, None)) is None:
            raise GatewayError(f"episode {episode} is not open")
        return await found[1].close()

    async def aclose(self) -> None:
        """End every episode's calls."""
        sessions, self._sessions = self._sessions, {}
        for _, session in sessions.values():
            await session.close()
        self._workers.shutdown(wait=False, cancel_futures=True)


def _secret(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
