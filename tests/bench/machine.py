"""What the bench runs on: the machine in a line, the farm, and the boxes and programs that every section uses."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass

from envfarm.core import digest
from envfarm.core.errors import EnvfarmError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, SandboxSpec
from envfarm.wiring import Farm

TRUE = ExecRequest(argv=("/bin/true",))
BUSY_LOAD = 0.7
"""Of one minute, for each CPU, from which on the figures are those of a busy machine."""
FLOOR = """
import json, os, sys, time
taken = []
for _ in range(int(sys.argv[1])):
    began = time.perf_counter()
    os.waitpid(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)
    taken.append((time.perf_counter() - began) * 1e3)
print(json.dumps(taken))
"""
"""What no sandbox can be faster than: the kernel's part of an action, measured in the box itself."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What a section is given."""

    farm: Farm
    image: str
    """For Docker boxes and Docker's own containers: one with Python."""
    harbor: Sequence[str]
    """The command of the real Harbor; empty where there is none."""
    quick: bool
    """Fewer samples."""
    dump_rows: int = 0
    """Rows of the made-up dump; the section's own number where it is 0."""
    pod_image: str = ""
    """For pods: an image with a shell, by digest, that the cluster pulls; empty where pods are not measured."""

    def rounds(self, full: int) -> int:
        """So many, or fewer."""
        return max(2, full // 5) if self.quick else full

    def spec(self, sandbox: str) -> SandboxSpec:
        """A small box of this provider's."""
        if sandbox == "local":
            image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
        else:
            image = ImageRef(kind="oci", digest=digest.of_bytes(self.image.encode()), reference=self.image)
        return SandboxSpec(environment=Environment(image=image, work_dir="/testbed"), memory_mib=512, disk_mib=256)


async def box_or_why(bench: Bench, sandbox: str) -> Box | str:
    """A box, or why there is none here."""
    try:
        return await bench.farm.provider(sandbox).create(bench.spec(sandbox))
    except EnvfarmError as e:
        return f"none here: {e}"


async def floor(box: Box, count: int) -> list[float]:
    """Milliseconds of starting and awaiting a program from within the box; nothing where the box has no Python."""
    result = await box.exec(ExecRequest(argv=("python3", "-c", FLOOR, str(count))))
    return [float(ms) for ms in json.loads(result.stdout)] if result.ok else []


def in_words() -> str:
    """The machine, and whether it is calm."""
    cpus = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    calm = "calm" if load <= BUSY_LOAD * cpus else "BUSY with other work: the ratios hold better than the figures"
    return f"{cpus} CPUs, Linux {platform.release()}, Python {platform.python_version()}; load {load:.1f}: {calm}"
