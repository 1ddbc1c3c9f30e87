"""Environments for pods: built by Docker, pushed to a registry, and known by digest. Made by `envfarm.wiring`.

A note beside the blobs says what a recipe came to, so that whoever shares the farm's home finds a pushed environment again without a
Docker of its own. It must not hand out a reference that the registry has no longer.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from envfarm.core import digest
from envfarm.core.errors import StoreError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment, ImageRef
from envfarm.core.protocols import BlobStore, ImageBuilder
from envfarm.core.recipe import Recipe
from envfarm.images.registry import Registry

NAME = "environment"


class PushingBuilder(ImageBuilder, Protocol):
    """A builder whose images can be pushed."""

    async def push(self, image: str, repository: str, tag: str) -> Digest:
        """Push an image that it built; the digest under which the registry has it."""
        ...


class RegistryBuilder:
    """An `ImageBuilder` whose environments any machine can pull."""

    def __init__(self, builder: Callable[[], PushingBuilder], registry: Registry, *, notes: Path, blobs: BlobStore) -> None:
        """`builder` is asked for where something has to be built: it may need a Docker that is not here. `notes` is a directory."""
        self._builder = builder
        self._registry = registry
        self._notes = notes
        self._blobs = blobs

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        """See `ImageBuilder.build`."""
        note = self._notes / f"{self._key(recipe, checkout)}.json"
        known = await asyncio.to_thread(_recall, note)
        if known is not None and await self._stands(known):
            return Built(known, BuildFacts(layer_reused=True, layer_s=0.0, layer_bytes=0, checkout_reused=True))
        builder = self._builder()
        built = await builder.build(recipe, checkout=checkout)
        tag = recipe.layer_digest.removeprefix("sha256:")[:32]
        pushed = await builder.push(built.environment.image.reference, f"{self._registry.prefix}/{NAME}", tag)
        image = ImageRef(kind="oci", digest=pushed, reference=f"{self._registry.prefix}/{NAME}@{pushed}")
        environment = built.environment.model_copy(update={"image": image})
        await asyncio.to_thread(_remember, note, environment)
        return Built(environment, built.facts)

    async def _stands(self, environment: Environment) -> bool:
        if await self._registry.digest_of(NAME, environment.image.digest) is None:
            return False
        if environment.checkout is None:
            return True
        try:
            await self._blobs.get(environment.checkout.digest)
        except StoreError:
            return False
        return True

    def _key(self, recipe: Recipe, checkout: BlobRef | None) -> str:
        named = {"registry": self._registry.prefix, "recipe": digest.of_noun(recipe), "checkout": checkout.digest if checkout else ""}
        return digest.of_json(named).removeprefix("sha256:")


def _recall(note: Path) -> Environment | None:
    try:
        return Environment.model_validate_json(note.read_bytes())
    except (OSError, ValueError):
        return None


def _remember(note: Path, environment: Environment) -> None:
    """In place, so that a killed process leaves no other file: half a note is read as none, and written again."""
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(environment.model_dump_json())
