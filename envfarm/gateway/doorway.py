"""The gateway for programs in boxes: each connection of an episode's door is a small HTTP server of that episode's session alone.

Joined to boxes by `envfarm.wiring`; implements `Models`. No port is listened on, and the farm's API is not behind it: whatever path a box
asks for, it is one of its own session.
"""

import asyncio

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from envfarm.core.ids import EpisodeId
from envfarm.core.program import Allowance
from envfarm.core.sampled import Sampled
from envfarm.gateway.app import gateway_app
from envfarm.gateway.service import Gateway


class Doorways:
    """Every program's way to the policy through one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def open(self, episode: EpisodeId, allowance: Allowance) -> "Doorway":
        """See `Models.open`."""
        return Doorway(self.gateway, episode, self.gateway.open(episode, allowance))


class Doorway:
    """One episode's."""

    def __init__(self, gateway: Gateway, episode: EpisodeId, token: str) -> None:
        self.token = token
        self._gateway = gateway
        self._session = gateway.session(episode, token)
        app = gateway_app(gateway, episode)
        self._config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, ws="none")
        self._config.load()
        self._state = ServerState()

    def serve(self) -> asyncio.Protocol:
        """See `ModelSession.serve`."""
        return H11Protocol(self._config, self._state, {}, asyncio.get_running_loop())

    def cut_off(self, seconds: float, why: str) -> None:
        """See `ModelSession.cut_off`."""
        self._session.cut_off(seconds, why)

    @property
    def outage_s(self) -> float:
        """See `ModelSession.outage_s`."""
        return self._session.outage_s

    async def used_up(self) -> None:
        """See `ModelSession.used_up`."""
        await self._session.used_up.wait()

    async def close(self) -> Sampled:
        """See `ModelSession.close`."""
        return await self._gateway.close(self._session.episode)
