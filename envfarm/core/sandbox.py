"""What is asked of a box and what it answers, whoever provides it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field

from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, ExecId, RunId
from envfarm.core.image import Environment
from envfarm.core.task import Limits


class Network(StrEnum):
    """What a box reaches. Decided when the box is made, and not changed after."""

    CLOSED = "closed"
    """Nothing, not even its host."""
    OPEN = "open"
    """What the host reaches, in a local box even on its loopback: for making environments only, never for an agent's code."""


class Mount(Frozen):
    """A host directory that is seen in the box, for making environments only."""

    source: str
    target: str
    writable: bool = False


class Holder(Frozen):
    """For whom a box is made: what its labels say, and the epoch that holds it. The fields are `SandboxSpec`'s."""

    run_id: RunId = RunId("")
    episode_id: EpisodeId = EpisodeId("")
    deadline: datetime | None = None
    epoch: int = 0


NOBODY = Holder()
"""For boxes of no episode's: while tasks are made, say."""


LEAST_INODES = 200_000
INODES_PER_MIB = 64
"""One for 16 KiB, as file systems are made."""


class SandboxSpec(Frozen):
    """A box to be made. The same for every provider."""

    environment: Environment
    cpus: float = 1.0
    memory_mib: int = 2048
    disk_mib: int = 4096
    disk_inodes: int = Field(default_factory=lambda said: max(LEAST_INODES, said["disk_mib"] * INODES_PER_MIB))
    """Files, directories and other names that it may make: as many as a file system of `disk_mib` has, and at least `LEAST_INODES`."""
    pids: int = 512
    output_bytes: int = 1 << 20
    """Of each stream of one command; the middle is lost beyond it."""
    network: Network = Network.CLOSED
    mounts: tuple[Mount, ...] = ()
    run_id: RunId = RunId("")
    episode_id: EpisodeId = EpisodeId("")
    deadline: datetime | None = None
    """The box is not needed after it; a cluster then ends the pod by itself."""
    epoch: int = 0
    """The lease's epoch: boxd refuses lower ones."""

    @classmethod
    def within(cls, limits: Limits, environment: Environment, *, holder: Holder = NOBODY, **more: Any) -> Self:
        """A box as large as a task allows; `more` are other fields."""
        sizes = {"cpus": limits.cpus, "memory_mib": limits.memory_mib, "disk_mib": limits.disk_mib, "pids": limits.pids}
        return cls(environment=environment, **sizes, **dict(holder), **more)


class ExecRequest(Frozen):
    """A command to run in a box. Exactly one of `argv` and `shell`."""

    argv: tuple[str, ...] = ()
    shell: str = ""
    exec_id: ExecId | None = None
    """The same id never runs twice; a caller that may ask again gives one."""
    cwd: str | None = None
    """The environment's work dir where absent."""
    env: dict[str, str] = {}
    stdin: bytes = b""
    timeout_s: float = Field(default=600.0, gt=0)
    output_bytes: int | None = None
    cores: tuple[int, ...] = ()
    """CPUs that the command may use; empty for all of the box's."""
    user: Literal["agent", "root"] = "agent"
    """`root` is the box's own: for setting a box up and looking at it, never for an agent's action.

    Such a command sees none of the environment's variables, and its PATH holds the system's folders alone.
    """
    session: str = ""
    """The persistent shell to run in (made at its first use); empty for none."""


class Contention(Frozen):
    """How a command that ran out of time spent it, in seconds, as the kernel counts: nothing in a box can change or hide it."""

    elapsed_s: float
    waited_s: float
    """Of its threads at the end, the longest that one was ready to run and waited for a CPU. Only those of ordinary urgency count."""
    box_cpu_s: float
    """CPU time that all of its box used meanwhile."""
    idle_s: float
    """How long the CPUs that the box was given had nothing to run meanwhile, on average."""


class ExecResult(Frozen):
    """What came of a command."""

    exit_code: int | None
    """None where a signal ended it."""
    signal: int | None = None
    timed_out: bool = False
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False
    duration_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    limit_hit: Literal["", "memory", "pids", "disk", "output"] = ""
    contention: Contention | None = None
    """Of a command that ran out of time, where the box can tell."""

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.exit_code == 0 and not self.timed_out

    @property
    def text(self) -> str:
        """Both streams for people, standard output first."""
        return (self.stdout + self.stderr).decode(errors="replace")


class QuiesceReport(Frozen):
    """Proof that nothing but boxd lives in the box."""

    killed: int
    remaining: tuple[str, ...]
    """Processes that would not die, as `pid comm`: must be empty."""

    @property
    def ok(self) -> bool:
        """Whether nothing is left."""
        return not self.remaining


class BoxStats(Frozen):
    """What a box used, for attribution and for telling an agent's fault from the farm's."""

    cpu_s: float = 0.0
    memory_peak_bytes: int = 0
    disk_bytes: int = 0
    limit_hits: dict[str, int] = {}
    oom_kills: int = 0


class MemoryKills(Frozen):
    """Counters, from outside a box, of what the kernel killed for want of memory. They only rise."""

    killed: int = 0
    """Processes that an out-of-memory killer took: the box's; where `shared`, those of a whole farm or machine."""
    own_limit: int = 0
    """How often the box ran into its own group's limit; 0 where `shared`."""
    filled: bool = False
    """Whether the box ever held all that its group may, once something was killed: some kernels do not count every run into the limit."""
    shared: bool = True
    """Whether the counters are not the box's alone."""
    limit_bytes: int = 0
    """What the box may hold."""
