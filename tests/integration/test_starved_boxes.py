"""Real local boxes run out of time: of their own doing, and on a machine that others keep busy.

Whether a machine is busy is not the tests' to say: what they assert holds at any load. A starved box competes with programs that outweigh
it; more load starves it more. Where the box is to blame itself, what others did meanwhile is measured, too, and bounds what may be claimed.
"""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.change import Change, ChangedFile
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Invalid, Outcome, Scored
from envfarm.core.sandbox import Contention, ExecRequest, SandboxSpec
from envfarm.episodes import cpu_blame
from envfarm.episodes.grader import SandboxGrader
from envfarm.sandboxes import local_groups
from envfarm.sandboxes.boxd_client import BoxdBox
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing import adder_task
from envfarm.testing.blobs import MemoryBlobs

OWN = local_groups.find()
SECONDS = 3.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SLACK_S = 0.5
"""The machine's use of CPUs is counted by ticks."""

pytestmark = [
    pytest.mark.skipif(
        OWN is None or "cpu" not in OWN.kept or (OWN.version != local_groups.UNIFIED and "cpuacct" not in OWN.kept),
        reason="boxes get no CPU groups here: run as root, or delegate cgroups",
    ),
    pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not say how long threads wait"),
    pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="the forgers are written for the system's Python"),
]
IMAGE = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
SPIN = "while True: pass"
FORK = """
import os, signal, time
def fork(count):
    return any(os.fork() == 0 for _ in range(count))
def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
"""
FORGERS = {
    "64 processes that spin": FORK + "fork(63)\nwhile True: pass",
    "64 processes on one CPU": FORK + "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nfork(63)\nwhile True: pass",
    "processes that wake at once": FORK + "fork(63)\nwhile True:\n    time.sleep(0.2 - time.time() % 0.2)\n    work(0.002)",
    "a process that gives way": FORK + "if fork(1): os.nice(19)\nwhile True: pass",
    "a process that runs when nothing else does": FORK
    + "if fork(1): os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass",
    "work that nobody waits for": FORK
    + """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
if fork(1):
    while True: pass
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    if fork(4):
        work(0.02)
        os._exit(0)
    time.sleep(0.02)
""",
}


class Crowd:
    """Boxes that others crowd out of the machine's CPUs, from the moment when they are made."""

    name = "local"

    def __init__(self, provider: LocalProvider, groups: local_groups.Groups, stack: contextlib.ExitStack) -> None:
        self._provider = provider
        self._groups = groups
        self._stack = stack
        self._above = groups._parents["cpu"] / f"few-{secrets.token_hex(4)}"
        self._others = groups._parents["cpu"] / f"others-{secrets.token_hex(4)}"

    async def narrow(self) -> None:
        """Have boxes made in a group of their own, which will weigh little."""
        host = await self._provider._prepared()
        for group in (self._above, self._others):
            group.mkdir()
            self._stack.callback(group.rmdir)
        parents = {**self._groups._parents, "cpu": self._above}
        if self._groups.version == local_groups.UNIFIED:
            (self._above / "cgroup.subtree_control").write_text("+cpu")
            parents = {"cpu": self._above}
        self._provider._host = host._replace(groups=local_groups.Groups(parents, version=self._groups.version))

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        box = await self._provider.create(spec)
        self._fill()
        return box

    def _fill(self) -> None:
        if self._groups.version == local_groups.UNIFIED:
            (self._above / "cpu.weight").write_text("2")
        else:
            (self._above / "cpu.shares").write_text("16")
        for cpu in os.sched_getaffinity(0):
            stay = f"import os; os.sched_setaffinity(0, {{{cpu}}})\n"
            program = subprocess.Popen([sys.executable, "-I", "-S", "-c", stay + SPIN])
            self._stack.callback(program.wait)
            self._stack.callback(program.kill)
            (self._others / "cgroup.procs").write_text(str(program.pid))

    async def destroy(self, box: BoxId) -> None:
        await self._provider.destroy(box)

    async def collect_left_overs(self) -> int:
        return await self._provider.collect_left_overs()

    async def aclose(self) -> None:
        await self._provider.aclose()


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
async def provider(tmp_path: Path, boxd: Path, blobs: MemoryBlobs) -> AsyncIterator[LocalProvider]:
    provider = LocalProvider(tmp_path / "home", boxd, blobs)
    yield provider
    await provider.aclose()


@pytest.fixture
async def crowded(provider: LocalProvider) -> AsyncIterator[Crowd]:
    """The machine's CPUs as a box gets them that weighs a fiftieth of what else there is, which is divided between the CPUs."""
    assert OWN is not None
    with contextlib.ExitStack() as stack:
        crowd = Crowd(provider, OWN, stack)
        await crowd.narrow()
        yield crowd
        await provider.aclose()


async def ran_out_of_time(provider: LocalProvider | Crowd, *argv: str, cpus: float = 1.0) -> Contention:
    spec = SandboxSpec(environment=Environment(image=IMAGE, work_dir="/"), memory_mib=512, disk_mib=64, pids=128, cpus=cpus)
    result = await (await provider.create(spec)).exec(ExecRequest(argv=argv, cwd="/", timeout_s=SECONDS))
    assert result.timed_out, result.text
    assert result.contention is not None
    return result.contention


def busy_s() -> float:
    """CPU time of all programs of the machine."""
    fields = [int(ticks) for ticks in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / TICKS_PER_S


@pytest.mark.parametrize("forger", FORGERS)
async def test_no_program_makes_the_farm_believe_that_others_took_more_than_they_did(provider: LocalProvider, forger: str) -> None:
    before = busy_s()
    seen = await ran_out_of_time(provider, "/usr/bin/python3", "-I", "-c", FORGERS[forger])
    others_s = busy_s() - before - seen.box_cpu_s
    assert seen.box_cpu_s > 0
    assert cpu_blame.taken_by_others_s(seen, cpus=1.0) <= max(0.0, others_s) + SLACK_S


async def test_a_box_that_its_quota_holds_back_was_not_held_back_by_others(provider: LocalProvider) -> None:
    before = busy_s()
    seen = await ran_out_of_time(provider, "/usr/bin/python3", "-I", "-c", SPIN, cpus=0.25)
    others_s = busy_s() - before - seen.box_cpu_s
    assert cpu_blame.taken_by_others_s(seen, cpus=0.25) <= max(0.0, others_s) + SLACK_S


async def test_a_program_that_sleeps_did_not_wait_for_a_cpu_whatever_others_do(crowded: Crowd) -> None:
    seen = await ran_out_of_time(crowded, "/bin/sleep", "300")
    assert cpu_blame.taken_by_others_s(seen, cpus=1.0) < cpu_blame.STARVED_SHARE * seen.elapsed_s


async def graded(provider: Crowd, blobs: MemoryBlobs, script: str) -> Outcome:
    """What a grading comes to of an `add.sh` that never ends."""
    environment = Environment(image=IMAGE, work_dir="/testbed", checkout=await blobs.put(adder_task.checkout_archive()))
    task = adder_task.make()
    commands = tuple(replace(command, timeout_s=SECONDS) for command in task.plan.commands)
    task = task.model_copy(update={"plan": replace(task.plan, commands=commands)})
    change = Change((ChangedFile("testbed/add.sh", 0o755, content=script.encode()),))
    return await SandboxGrader(provider).grade(task, change, environment=environment)


async def test_a_grading_that_others_starve_is_no_zero(crowded: Crowd, blobs: MemoryBlobs) -> None:
    outcome = await graded(crowded, blobs, "while :; do :; done\n")
    assert isinstance(outcome, Invalid), outcome
    assert (outcome.cause, outcome.retryable) == ("sandbox", True)
    assert "the machine starved a command" in outcome.detail


async def test_a_grading_of_code_that_sleeps_is_a_zero_even_then(crowded: Crowd, blobs: MemoryBlobs) -> None:
    outcome = await graded(crowded, blobs, "sleep 300\n")
    assert isinstance(outcome, Scored), outcome
    assert outcome.reward == 0.0
    assert "of its threads waited" in outcome.why
