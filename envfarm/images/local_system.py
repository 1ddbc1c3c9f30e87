"""What boxes of a recipe stand on: layers of the base system and of the recipe's Debian packages. Called by the builder of local layers.

Where the machine has no dpkg there is no base: boxes then show its whole /usr. It must not run anything of a package.
"""

import asyncio
import platform
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.errors import ImageError
from envfarm.core.ids import Digest
from envfarm.core.recipe import Recipe
from envfarm.images import alternatives, base_system, shared_libraries
from envfarm.images.base_system import BaseSystem
from envfarm.images.dpkg import Dpkg
from envfarm.images.layer_store import LayerStore
from envfarm.images.system_packages import HOST, InstalledBase, SystemPackages, layer_entries
from envfarm.images.toolchains import Interpreter, Toolchains

SYSTEM_FORMAT = 3
"""Of layers of system packages: since 2 they hold the alternatives that the packages offer, since 3 what they bring for /etc."""


class System(NamedTuple):
    """What a recipe's own layer lies on."""

    layers: tuple[Digest, ...]
    """Lowest first."""
    ground: tuple[str, ...]
    """What the recipe's own layer depends on: made over another ground it is made anew."""
    has_base: bool


def machine_dpkg() -> Dpkg | None:
    """What this machine has installed, where it is one of Debian's kind."""
    try:
        found = Dpkg()
    except OSError:
        return None
    return found if any(package.basic for package in found.packages.values()) else None


class LocalSystem:
    """Of one machine, as it was when it was first asked; any number of processes may share the store."""

    def __init__(self, store: LayerStore, toolchains: Toolchains, *, cache: Path, variables: Mapping[str, str]) -> None:
        """`cache` is where apt keeps its state, `variables` name proxies."""
        self._store = store
        self._toolchains = toolchains
        self._apt = SystemPackages(cache / "apt", variables=variables)
        self._bases: dict[str, BaseSystem] = {}
        self._dpkg: Dpkg | None = None

    async def under(self, recipe: Recipe, interpreter: Interpreter) -> System:
        """The layers, made now where they are not there. Raises `ImageError`."""
        dpkg = await asyncio.to_thread(self._machine)
        if dpkg is None:
            layers = await self._packages(await asyncio.to_thread(self._apt.missing, recipe.system_packages), HOST)
            return System(layers, (self.host, *layers), has_base=False)
        base = await asyncio.to_thread(self._base, dpkg, interpreter)
        offered = await asyncio.to_thread(base_system.offered, dpkg, base)
        async with self._store.claim(base.digest):
            if self._store.find(base.digest) is None:
                await asyncio.to_thread(self._copy, dpkg, base, offered)
        installed = InstalledBase(base.status, offered, base.digest, (self._store.tree(base.digest),))
        over = await self._packages(sorted({*recipe.system_packages} - base.names), installed)
        return System((base.digest, *over), (self.host, base.ground, *over), has_base=True)

    def _base(self, dpkg: Dpkg, interpreter: Interpreter) -> BaseSystem:
        if interpreter.version not in self._bases:
            prefix = self._toolchains.place_of(interpreter)
            try:
                self._bases[interpreter.version] = base_system.base_for(dpkg, prefix, interpreter.minor)
            except (OSError, subprocess.SubprocessError) as e:
                raise ImageError(f"what Python {interpreter.version} needs of this machine cannot be found out: {e}") from e
        return self._bases[interpreter.version]

    def _copy(self, dpkg: Dpkg, base: BaseSystem, offered: Sequence[alternatives.Alternative]) -> None:
        def finish(tree: Path) -> int:
            alternatives.link_into(tree, offered)
            return shared_libraries.write_cache([tree])

        meta = {"kind": "base", "system": True, "packages": sorted(base.names)}
        self._store.publish(base.digest, base_system.entries(dpkg, base), meta, finish=finish)

    async def _packages(self, packages: Sequence[str], over: InstalledBase) -> tuple[Digest, ...]:
        """The layer of Debian packages; none where there is nothing to add."""
        if not packages:
            return ()
        known = digest.of_json({"packages": packages, "ground": over.identity, "host": self.host, "format": SYSTEM_FORMAT})
        async with self._store.claim(known):
            if self._store.find(known) is None:
                await asyncio.to_thread(self._unpack, packages, known, over)
        return (known,)

    def _unpack(self, packages: Sequence[str], known: Digest, over: InstalledBase) -> None:
        def finish(tree: Path) -> int:
            # Over a host, its own cache is what boxes have.
            return shared_libraries.write_cache([*over.trees, tree]) if over.trees else 0

        with self._store.scratch(known) as folder:
            archives = self._apt.unpack(packages, folder, over=over)
            meta = {"kind": "system", "packages": list(packages), "archives": list(archives)}
            self._store.publish(known, layer_entries(folder), meta, finish=finish)

    def _machine(self) -> Dpkg | None:
        if self._dpkg is None or self._dpkg.unsettled:
            self._dpkg = machine_dpkg()
        return self._dpkg

    @cached_property
    def host(self) -> str:
        """Which system the layers lie on: programs that were built over one may not run over another."""
        try:
            fields = dict(re.findall(r'^(ID|VERSION_ID)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
        except OSError:
            fields = {}
        return shlex.join([fields.get("ID", "linux"), fields.get("VERSION_ID", ""), platform.machine()])
