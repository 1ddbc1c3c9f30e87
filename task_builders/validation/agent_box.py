"""What an agent would leave: a fresh box, a script of the task run in it as the agent, quiesce, diff. Called by the gates gold and nop."""

from envfarm.core.change import Change
from envfarm.core.errors import SandboxError
from envfarm.core.frozen import Frozen
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.core.task import Task
from envfarm.images.tarball import Entry, pack
from task_builders.validation.bench import Bench

SOLUTION = "/tmp/solution"  # noqa: S108 - inside the box
"""A place that every box lets its agent write to; `solve.sh` minds only what lies beside it."""


class Left(Frozen):
    """What came of the script."""

    change: Change
    exit_code: int | None
    log: str
    seconds: float


async def solved(bench: Bench, task: Task) -> Left:
    """The change that the task's own solution makes. Raises what the box raises; a script that fails is a result."""
    async with bench.agent_box(task) as box:
        await box.put(_archive(task.solution), dest="/", owner="agent")
        request = ExecRequest(argv=("/bin/sh", f"{SOLUTION}/solve.sh"), cwd=task.plan.work_dir, timeout_s=task.limits.verifier_s)
        result = await box.exec(request)
        await _silence(box)
        return Left(change=await box.diff(), exit_code=result.exit_code, log=result.text[-2000:], seconds=result.duration_s)


async def untouched(bench: Bench, task: Task) -> Change:
    """The change of an agent that does nothing."""
    async with bench.agent_box(task) as box:
        await _silence(box)
        return await box.diff()


async def _silence(box: Box) -> None:
    report = await box.quiesce()
    if not report.ok:
        raise SandboxError(f"the box does not come to rest: {', '.join(report.remaining[:3])}")


def _archive(files: dict[str, bytes]) -> bytes:
    modes = {path: 0o755 if path.endswith(".sh") else 0o644 for path in files}
    return pack(Entry(f"{SOLUTION.lstrip('/')}/{path}", modes[path], content=data) for path, data in files.items())
