"""Settings → objects: the only place that knows concrete adapters. Called by the command line, the task builders' commands and the API."""

import asyncio
import shutil
import sysconfig
from pathlib import Path
from typing import Self

from envfarm.core.errors import UsageError
from envfarm.core.protocols import SandboxProvider
from envfarm.episodes.grader import SandboxGrader
from envfarm.images.local_layers import LocalLayerBuilder, Places
from envfarm.images.toolchains import Toolchains
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.settings import Settings
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.catalogue import TaskCatalogue


class Farm:
    """Everything on this machine. Objects are made when they are first asked for."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.blobs = FileBlobStore(settings.blobs)
        self._catalogue: TaskCatalogue | None = None
        self._providers: dict[str, SandboxProvider] = {}
        self._toolchains: Toolchains | None = None

    async def __aenter__(self) -> Self:
        """Open."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Give back what is held."""
        if self._catalogue is not None:
            self._catalogue.close()

    @property
    def catalogue(self) -> TaskCatalogue:
        """The tasks."""
        if self._catalogue is None:
            self._catalogue = TaskCatalogue(self.settings.catalogue)
        return self._catalogue

    @property
    def toolchains(self) -> Toolchains:
        """Interpreters that boxes can have."""
        if self._toolchains is None:
            self._toolchains = Toolchains(self.settings.toolchains, uv=uv_program(), downloads=True, variables=self.settings.variables)
        return self._toolchains

    def provider(self, name: str) -> SandboxProvider:
        """The provider of boxes of this name. Raises `UsageError` for one that there is not."""
        if name not in self._providers:
            if name != "local":
                raise UsageError(f"no sandbox {name!r}", hint="this version knows: local")
            self._providers[name] = LocalProvider(self.settings.home, boxd_binary.find(), self.blobs)
        return self._providers[name]

    async def builder(self, name: str) -> LocalLayerBuilder:
        """The builder of environments for a provider."""
        places = Places(layers=self.settings.layers, cache=self.settings.cache)
        provider = await asyncio.to_thread(self.provider, name)
        return LocalLayerBuilder(
            provider, places, blobs=self.blobs, toolchains=self.toolchains, uv=uv_program(), variables=self.settings.variables
        )

    def grader(self, name: str) -> SandboxGrader:
        """A grader in this provider's boxes."""
        return SandboxGrader(self.provider(name))


def uv_program() -> Path:
    """The uv program of this installation. Raises `UsageError` where there is none."""
    for folder in (sysconfig.get_path("scripts"), None):
        if found := shutil.which("uv", path=folder):
            return Path(found).resolve()
    raise UsageError("uv is not installed", hint="pip install 'envfarm[mint]'")
