"""Options of the cluster that boxes run in: a TOML file, named by `ENVFARM_KUBERNETES`.

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
    """A toleration, as in a pod's `tolerations`."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""


class KubernetesOptions(Frozen):
    """Where pods are created, and the settings of each."""

    boxd_image: str = Field(min_length=1)
    """An image with boxd at `/boxd`, by digest. Every pod's init container copies it from there."""
    registry: str = ""
    """`host[:port]/path` that environments are pushed to and pulled from; needed to build them."""
    namespace: str = Field(default="envfarm-boxes", pattern=DNS_LABEL)
    """The operator sets its network policies. A closed box that reaches anything is refused."""
    farm: str = Field(default="envfarm", pattern=DNS_LABEL)
    """The farm's name, a label of its pods. Farms with the same name collect each other's leftovers."""
    kubeconfig: str = ""
    """A file; empty: the usual places, and inside a pod its service account."""
    context: str = ""
    runtime_class: str = ""
    """The RuntimeClass of boxes (`gvisor`, `kata`); empty: the cluster's default."""
    own_kernel: bool | None = None
    """Whether boxes have their own kernel (gVisor, Kata), in which code inside may be root. Then a killed first process, and a port that
    refuses connections, are blamed on the box. Required with `runtime_class`, whose name does not tell."""
    node_selector: dict[str, str] = {}
    tolerations: tuple[Toleration, ...] = ()
    image_pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    cpu_requested: float = Field(default=1.0, gt=0, le=1)
    """The share of a box's CPUs that is requested from a node. A lower share packs more boxes that mostly wait; the limit is unaffected."""
    start_s: float = Field(default=300.0, gt=0)
    """How long a pod may take from creation until boxd answers, including scheduling and image pulls."""
    warm: int = Field(default=0, ge=0, le=10_000)
    """The most pods that are created ahead, for what the queue will need next. They occupy the resources that they request."""
    creates_at_once: int = Field(default=64, gt=0)
    calls_at_once: int = Field(default=16, gt=0, le=256)
    """The most simultaneous requests of one provider to the API server."""
    lease_s: int = Field(default=60, ge=5, le=100)
    """A maker that has not renewed its lease for so long counts as dead, and its pods as leftovers. Hosts look for two minutes."""

    @model_validator(mode="after")
    def _says_whose_kernel(self) -> Self:
        if self.runtime_class and self.own_kernel is None:
            raise ValueError(
                f"own_kernel is missing: set it to true if the runtime class {self.runtime_class!r} is gVisor or Kata, else to false"
            )
        return self


def load(path: Path | None) -> KubernetesOptions:
    """Read the file. Raises `UsageError` with the file and the wrong key."""
    if path is None:
        hint = "write an options file (see docs/kubernetes.md) and set ENVFARM_KUBERNETES to its path"
        raise UsageError("Kubernetes boxes need an options file, and ENVFARM_KUBERNETES is not set", hint=hint)
    try:
        said: dict[str, Any] = tomllib.loads(path.read_text())
        return KubernetesOptions.model_validate(said)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"{path}: {e}", hint="ENVFARM_KUBERNETES names this file") from e
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{path}: {key}: {first['msg'].removeprefix('Value error, ')}", hint=f"keys are {', '.join(KubernetesOptions.model_fields)}"
        ) from e
