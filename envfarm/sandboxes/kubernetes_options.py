"""What an operator says of the cluster that boxes run in: a TOML file, named by `ENVFARM_KUBERNETES`. Read by `envfarm.wiring`.

namespace = "envfarm-boxes"
boxd_image = "registry.example/envfarm/boxd@sha256:…"
runtime_class = "gvisor"
own_kernel = true
node_selector = { pool = "boxes" }
"""

import tomllib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen

DNS_LABEL = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class Toleration(Frozen):
    """As in a pod's `tolerations`."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class KubernetesOptions(Frozen):
    """Where pods are made, and what is said of each."""

    boxd_image: str = Field(min_length=1)
    """An image that holds boxd at `/boxd`, by digest: every pod's first container copies it out."""
    registry: str = ""
    """Where environments are pushed to and pulled from, `host[:port]/path`; needed for building them."""
    namespace: str = Field(default="envfarm-boxes", pattern=DNS_LABEL)
    """Its network policies are the operator's: a box in which anything is reached is refused."""
    farm: str = Field(default="envfarm", pattern=DNS_LABEL)
    """Whose pods these are: farms of one name collect each other's left-overs."""
    kubeconfig: str = ""
    """A file; empty for the usual places, and inside a pod for its service account."""
    context: str = ""
    runtime_class: str = ""
    """The RuntimeClass of boxes: `gvisor`, `kata`; empty for the cluster's own."""
    own_kernel: bool | None = None
    """Whether boxes have a kernel of their own (gVisor, Kata), of which what runs inside may be root. Then a first process that was killed,
    and a port that turns connections away, are the box's own doing. To be said with `runtime_class`, whose name does not tell."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    cpu_requested: float = Field(default=1.0, gt=0, le=1)
    """What part of a box's CPUs a node must have free for it. Less packs more boxes that mostly wait; the limit stays whole."""
    start_s: float = Field(default=300.0, gt=0)
    """How long a pod may take from its creation until boxd answers: scheduling and pulling of images with it."""
    warm: int = Field(default=0, ge=0, le=10_000)
    """Pods at the most that are made before they are asked for, from what the queue will ask for next. They hold what they request."""
    creates_at_once: int = Field(default=64, gt=0)
    calls_at_once: int = Field(default=16, gt=0, le=256)
    """Requests that the API server has of one provider at a time."""
    lease_s: int = Field(default=60, ge=5)
    """A maker that has not renewed its lease for so long is dead, and its pods are left over."""

    @model_validator(mode="after")
    def _says_whose_kernel(self) -> Self:
        if self.runtime_class and self.own_kernel is None:
            raise ValueError(
                f"own_kernel is missing: true where the runtime class {self.runtime_class!r} is gVisor or Kata, false for runc"
            )
        return self


def load(path: Path | None) -> KubernetesOptions:
    """Read the file. Raises `UsageError` naming the file and the key that is wrong."""
    if path is None:
        hint = "write the options (see docs/kubernetes.md) and let ENVFARM_KUBERNETES name the file"
        raise UsageError("Kubernetes boxes need a file of options, and ENVFARM_KUBERNETES names none", hint=hint)
    try:
        said: dict[str, Any] = tomllib.loads(path.read_text())
        return KubernetesOptions.model_validate(said)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"{path}: {e}", hint="ENVFARM_KUBERNETES names it") from e
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}", hint=f"keys are {', '.join(KubernetesOptions.model_fields)}"
        ) from e
