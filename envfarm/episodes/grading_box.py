"""What grading does in a box, verb by verb. Called by `envfarm.episodes.grader`; decides nothing about verdicts."""

import io
import random
import tarfile
from collections.abc import Collection, Sequence

from envfarm.core.change import Change
from envfarm.core.errors import BoxLost, SandboxError
from envfarm.core.outcome import Finding
from envfarm.core.plan import TestPlan
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.episodes.memory_blame import run_witnessed
from envfarm.grading.filtering import id_files
from envfarm.grading.integrity import Defence
from envfarm.grading.procedure import LOG_TAIL, CommandOutcome
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX

HOUSEKEEPING_S = 60.0
LOG_BYTES = 1 << 18
HARD_LIMITS = frozenset({"memory", "pids", "disk"})


async def restore(box: Box, change: Change) -> None:
    """Make a change happen, if there is any."""
    if change:
        await box.restore(change)


async def apply(box: Box, change: Change) -> Finding | None:
    """Make the agent's change happen in a fresh box; a finding when the box refuses it.

    A box that answers after it refused a change is sound, so the change is to blame (names too long, a file where a folder is, more
    than the disk holds). Raises what the box raises when it does not answer.
    """
    try:
        await restore(box, change)
    except BoxLost:
        raise
    except SandboxError as e:
        await wake(box)
        return Finding("change can be applied", ok=False, detail=str(e))
    return None


async def wake(box: Box) -> None:
    """Let the agent's user run commands again after a quiesce."""
    await box.exec(ExecRequest(argv=("true",), user="root", cwd="/", timeout_s=HOUSEKEEPING_S))


async def quiesce(box: Box) -> Finding:
    """Kill what runs, as a finding: whether anything would not die."""
    report = await box.quiesce()
    return Finding(
        "nothing runs when reports are taken", report.ok, f"{report.killed} killed; left: {', '.join(report.remaining) or 'none'}"
    )


async def make_scratch(box: Box, path: str) -> None:
    """An empty folder that the tests' user may write to. `SandboxError` where it cannot be made."""
    await wake(box)
    result = await box.exec(ExecRequest(argv=("mkdir", "-p", "-m", "700", path), cwd="/", timeout_s=HOUSEKEEPING_S))
    if not result.ok:
        raise SandboxError(f"a folder for reports cannot be made in the box: {result.text.strip()[:500]}")


async def missing_files(box: Box, plan: TestPlan) -> tuple[str, ...]:
    """Of the files that the plan's tests are in, those that the tree does not have."""
    files = tuple(dict.fromkeys(id_files(plan) + plan.test_files))
    script = 'for f; do [ -e "$f" ] || printf "%s\\n" "$f"; done'
    result = await box.exec(ExecRequest(argv=("sh", "-c", script, "sh", *files), cwd=plan.work_dir, timeout_s=HOUSEKEEPING_S))
    return tuple(result.stdout.decode(errors="surrogateescape").splitlines())


async def run_command(
    box: Box, request: ExecRequest, report_path: str, defences: Collection[Defence]
) -> tuple[CommandOutcome, list[Finding]]:
    """Run a test command, stop everything, take its report."""
    findings: list[Finding] = []
    result = await run_witnessed(box, request.model_copy(update={"output_bytes": LOG_BYTES}))
    if Defence.QUIESCE in defences:
        findings.append(await quiesce(box))
    if Defence.OUTSIDE_PARSER in defences:
        report = None if result.timed_out else await fetch_report(box, report_path, findings)
    else:
        report = result.stdout
    await wake(box)
    return _outcome(result, report), findings


def _outcome(result: ExecResult, report: bytes | None) -> CommandOutcome:
    return CommandOutcome(
        exit_code=result.exit_code,
        report=report,
        timed_out=result.timed_out,
        duration_s=result.duration_s,
        log_tail=result.text[-LOG_TAIL:],
        note=f"the box's limit of {result.limit_hit} was hit" if result.limit_hit in HARD_LIMITS else "",
    )


async def fetch_report(box: Box, path: str, findings: list[Finding]) -> bytes | None:
    """The report's bytes; None where there is no plain file of a readable size, which is then a finding or just missing.

    Its size is asked first, so that a monstrous file costs the agent its reward and not the farm a retry.
    """
    asked = await box.exec(ExecRequest(argv=("stat", "-c", "%s %F", path), user="root", cwd="/", timeout_s=HOUSEKEEPING_S))
    if not asked.ok:
        return None
    size, _, what = asked.stdout.decode(errors="replace").strip().partition(" ")
    if not what.startswith("regular") or not size.isdigit() or int(size) > REPORT_BYTES_MAX:
        findings.append(Finding("report is a plain file", ok=False, detail=f"{what or 'unknown'}, {size} bytes"))
        return None
    try:
        archive = await box.get([path])
    except FileNotFoundError:
        return None
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if member.isreg() and member.name.strip("/") == path.strip("/"):
                stream = tar.extractfile(member)
                return stream.read() if stream else None
    return None


def reordered(argv: Sequence[str], sealed: Sequence[str], seed: int) -> list[str]:
    """The same command with its test files in another order."""
    places = [n for n, a in enumerate(argv) if n and any(path.endswith("/" + a) for path in sealed)]
    files = [argv[n] for n in places]
    random.Random(seed).shuffle(files)  # noqa: S311 - an order to try, not a secret
    out = list(argv)
    for n, file in zip(places, files, strict=True):
        out[n] = file
    return out
