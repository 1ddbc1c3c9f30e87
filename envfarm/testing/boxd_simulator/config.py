"""The configuration of one boxd (docs/boxd-protocol.md). Unknown fields are refused, as by boxd."""

from typing import Any

from pydantic import Field, ValidationError

from envfarm.core.frozen import Frozen
from envfarm.testing.boxd_simulator.tree import Refused


class BoxConfig(Frozen):
    """What a provider sends to a boxd that has its token. Fields without meaning for simulated boxes are accepted and ignored."""

    epoch: int = Field(default=0, ge=0)
    agent_uid: int | None = None
    agent_gid: int | None = None
    work_dir: str = Field(default="/", pattern="^/")
    limits: dict[str, int] = {}
    watchdog_ms: int = 50
    disk_paths: list[str] = []
    shared_disk: str = ""
    exec_env: dict[str, str] = {}
    umask: int | None = None
    seccomp: str = ""


def parse_config(said: Any) -> BoxConfig:
    """Parse a configuration. Raises `Refused`."""
    try:
        return BoxConfig.model_validate(said)
    except ValidationError as e:
        first = e.errors()[0]
        raise Refused(400, "bad_request", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from e
