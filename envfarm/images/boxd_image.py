"""boxd as an image: what a pod's init container brings it in with. Made of the binaries alone, for every architecture that there is one of.

Called by `wiring`. The image holds one static program and nothing else.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from envfarm.core import digest
from envfarm.images.registry import Registry
from envfarm.images.tarball import Entry, pack

NAME = "boxd"
PROGRAM = "/boxd"


async def push(registry: Registry, binaries: Mapping[str, Path]) -> str:
    """The image's reference by digest, pushed where it is not there. `binaries` by architecture (`amd64`). Raises as `Registry` does."""
    layers = {architecture: (PROGRAM, await asyncio.to_thread(_layer, path)) for architecture, path in binaries.items()}
    tag = digest.of_json({architecture: digest.of_bytes(layer) for architecture, (_, layer) in layers.items()}).removeprefix("sha256:")[:32]
    if known := await registry.digest_of(NAME, tag):
        return f"{registry.prefix}/{NAME}@{known}"
    return await registry.push_program(NAME, tag, layers)


def _layer(binary: Path) -> bytes:
    """A tar of the program. The same program is the same bytes, wherever and whenever it was packed."""
    return pack([Entry(PROGRAM.lstrip("/"), 0o755, content=binary.read_bytes())], owner=0)
