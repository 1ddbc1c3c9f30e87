"""A host as an actor on Ray: detached, named, with hundreds of episodes. Started by `ray_pool`; needs nobody once it is.

Ray brings its process back when it dies, and then it begins by itself: no driver has to live for that. What its dead process played is
another host's, by the lease in the database. Nothing here may wait for Ray in a blocking way: the actor's loop plays the episodes.
"""

import asyncio
import logging
import os
from typing import Any

import ray

from envfarm.controller.host import HostView
from envfarm.controller.host_work import HostLife, HostMaker
from envfarm.core.errors import UsageError

log = logging.getLogger(__name__)


class RayHost:
    """The actor's class; `ray_pool` gives it to Ray with its options."""

    def __init__(self, maker: HostMaker) -> None:
        self._life = HostLife(maker)
        self._over = asyncio.Event()
        me: Any = ray.get_runtime_context().current_actor
        me.play.remote()

    async def play(self) -> None:
        """Play until drained; then the actor is over for good. Called by the actor itself, at every start of its process."""
        try:
            await self._life.run()
        except UsageError:
            log.exception("this host can never begin")
        except BaseException:
            log.exception("this host failed")
            os._exit(1)  # Ray starts the process again
        self._over.set()  # Ray lets an actor go only when all its calls have answered
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]

    async def drain(self, grace_s: float, others_go_on: bool = False) -> None:  # noqa: FBT001, FBT002 - Ray's calls name nothing
        """See `Host.drain`."""
        self._life.drain(grace_s=grace_s, others_go_on=others_go_on)

    async def view(self) -> HostView:
        """How it stands."""
        return self._life.view

    async def node(self) -> str:
        """The id of Ray's node that it is on."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    async def process(self) -> int:
        """The number of its process, for who wants to harm it."""
        return os.getpid()

    async def ended(self) -> None:
        """Answers when it has played to its end; who asks a host whose process is killed is told by Ray."""
        await self._over.wait()
