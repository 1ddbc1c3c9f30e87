"""Builds scaffolds as layers when they are first needed, and attaches them to the environments of agents' boxes.

The task's own environment stays unchanged, since grading uses that alone.
"""

import asyncio
from collections.abc import Callable

from envfarm.core.errors import Unsupported
from envfarm.core.ids import Digest
from envfarm.core.image import Built, Environment
from envfarm.core.protocols import ImageBuilder
from envfarm.scaffolds.recipes import recipe_of
from envfarm.scaffolds.registry import Scaffolds

WITHOUT = frozenset({"kubernetes"})
"""Sandboxes whose boxes cannot use this machine's layers."""


class ScaffoldLayers:
    """For one process. The layers are shared by all processes of a home."""

    def __init__(self, scaffolds: Scaffolds, builder: Callable[[], ImageBuilder], is_there: Callable[[Digest], bool]) -> None:
        """`builder` builds layers in this machine's layer store, whatever kind of box they are attached to; `is_there` looks into it."""
        self.scaffolds = scaffolds
        self._builder = builder
        self._is_there = is_there
        self._layers: dict[Digest, asyncio.Future[Built]] = {}

    async def to(self, environment: Environment, scaffold: str, sandbox: str) -> Environment:
        """The environment with a scaffold attached. Raises `UsageError`, `ImageError`, `Unsupported`."""
        if sandbox in WITHOUT:
            raise Unsupported(f"{sandbox} boxes cannot have a scaffold attached", hint="use --sandbox local or docker")
        layer = await self.layer(scaffold)
        return environment.model_copy(update={"image": environment.image.attach(layer)})

    async def layer(self, scaffold: str) -> Digest:
        """The scaffold's layer, built now if it is missing, or lost. Raises `UsageError`, and `ImageError` with the failed step."""
        recipe = recipe_of(self.scaffolds.find(scaffold))
        key = recipe.layer_digest
        made = self._layers.get(key)
        if made is None or (made.done() and not self._is_there(_layer(made.result()))):
            made = self._layers[key] = asyncio.ensure_future(self._builder().build(recipe, checkout=None))
        try:
            return _layer(await asyncio.shield(made))
        except Exception:
            self._layers.pop(key, None)
            raise


def _layer(built: Built) -> Digest:
    return built.environment.image.layers[-1]
