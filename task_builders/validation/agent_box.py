"""The change that an agent would leave: run a script of the task in a fresh agent's box, quiesce it, take its diff."""

from envfarm.core.change import Change
from envfarm.core.errors import SandboxError
from envfarm.core.frozen import Frozen
from envfarm.core.plan import TestPlan
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.core.task import Task
from envfarm.images.tarball import Entry, pack
from envfarm.memory_blame import run_witnessed
from task_builders.validation.bench import Bench

SOLUTION = "/tmp/solution"  # noqa: S108 - inside the box
"""Writable for the agent in every box. `solve.sh` depends only on the files beside it."""


class Left(Frozen):
    """The result of the script."""

    change: Change
    exit_code: int | None
    log: str
    seconds: float


def python_of(plan: TestPlan) -> str:
    """An interpreter that the agent has: the one that runs the tests, or else the one on PATH."""
    first = plan.commands[0].argv[0]
    return first if "python" in first.rpartition("/")[2] else "python3"


async def solved(bench: Bench, task: Task) -> Left:
    """The change that the task's own solution makes. A failing script is a result; errors of the box are raised."""
    async with bench.agent_box(task) as box:
        await box.put(_archive(task.solution), dest="/", owner="agent")
        request = ExecRequest(argv=("/bin/sh", f"{SOLUTION}/solve.sh"), cwd=task.plan.work_dir, timeout_s=task.limits.verifier_s)
        result = await run_witnessed(box, request, children=True)
        await _quiesce(box)
        return Left(change=await box.diff(), exit_code=result.exit_code, log=result.text[-2000:], seconds=result.duration_s)


async def untouched(bench: Bench, task: Task) -> Change:
    """The change of an agent that does nothing."""
    async with bench.agent_box(task) as box:
        await _quiesce(box)
        return await box.diff()


async def _quiesce(box: Box) -> None:
    report = await box.quiesce()
    if not report.ok:
        raise SandboxError(f"processes survive in the box after quiescing it: {', '.join(report.remaining[:3])}")


def _archive(files: dict[str, bytes]) -> bytes:
    modes = {path: 0o755 if path.endswith(".sh") else 0o644 for path in files}
    return pack(Entry(f"{SOLUTION.lstrip('/')}/{path}", modes[path], content=data) for path, data in files.items())
