"""An environment that exists: an image of (repository, dependency lock), and the small blob of one commit's checkout; what it cost."""

from typing import Literal, NamedTuple, Self

from envfarm.core import digest
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest


class ImageRef(Frozen):
    """An image that a provider can start a box from.

    `kind` says whose: `host` is a local box over the machine's own /usr; `layers` a stack of unpacked local layers, the lowest of which
    may be a base system or a whole root, or else over the machine's own /usr; `oci` an image in Docker or a registry.
    """

    kind: Literal["host", "layers", "oci"]
    digest: Digest
    reference: str = ""
    """For `oci`: what to pull, as `name@sha256:…` or a local image id."""
    layers: tuple[Digest, ...] = ()
    """For `layers`: directories in the layer store, lowest first."""
    toolchains: tuple[str, ...] = ()
    """For `host` and `layers`: names of toolchains in the toolchain store that are mounted at /opt/<name> (`python-3.11.9`)."""
    attached: tuple[Digest, ...] = ()
    """Layers of this machine's layer store that are no part of the environment: each one's directories below /opt are seen there,
    read-only, in boxes of every kind. Pods have them in the image that `reference` names."""

    def attach(self, layer: Digest) -> Self:
        """The same image with a layer attached."""
        attached = (*self.attached, layer)
        return self.model_copy(update={"attached": attached, "digest": digest.of_json({"image": self.digest, "attached": layer})})


class BlobRef(Frozen):
    """A content-addressed tar archive, rooted at `/`, that a box unpacks when it is claimed."""

    digest: Digest
    size_bytes: int


class Environment(Frozen):
    """Image and checkout: all that a box of a task is made of."""

    image: ImageRef
    checkout: BlobRef | None = None
    env: dict[str, str] = {}
    work_dir: str = "/"
    hidden: tuple[str, ...] = ()
    """For images over the machine's own /usr: its files and directories that boxes do not show, being copies of the project."""

    @property
    def digest(self) -> Digest:
        """The environment's identity. The warm key of a pool is the image's alone."""
        return digest.of_noun(self)


class BuildFacts(Frozen):
    """Seconds and bytes of one build; what was found made already cost nothing but the look."""

    layer_reused: bool
    """Whether the shared layer was there."""
    layer_s: float
    """Making the shared layer, or waiting for another process that made it."""
    layer_bytes: int
    """Of the shared layer, unpacked."""
    checkout_reused: bool = False
    """Whether these project steps had been run on this checkout before."""
    checkout_s: float = 0.0
    """The project's own steps."""
    checkout_bytes: int = 0
    """Of the environment's own checkout blob; 0 without a checkout."""


class Built(NamedTuple):
    """An environment and what it cost."""

    environment: Environment
    facts: BuildFacts
