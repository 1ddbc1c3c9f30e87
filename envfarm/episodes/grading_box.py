"""The single operations of a grading in a box. It decides nothing about verdicts.

Besides the test commands it starts no program in the box: boxd itself does what is needed.
"""

import io
import random
import tarfile
from collections.abc import Collection, Sequence

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import BoxBroken, BoxLost, SandboxError
from envfarm.core.outcome import Finding
from envfarm.core.plan import TestPlan
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.episodes import cpu_blame
from envfarm.grading.filtering import id_files
from envfarm.grading.integrity import Defence
from envfarm.grading.procedure import LOG_TAIL, CommandOutcome
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX
from envfarm.memory_blame import run_witnessed

HOUSEKEEPING_S = 60.0
LOG_BYTES = 1 << 18
HARD_LIMITS = frozenset({"memory", "pids", "disk"})


async def restore(box: Box, change: Change) -> None:
    """Apply a change, if it is not empty."""
    if change:
        await box.restore(change)


async def apply(box: Box, change: Change, check: str = "change can be applied") -> Finding | None:
    """Apply a change in a fresh box; a finding if the box refuses it.

    If the box still answers after its refusal it is sound, so the change is to blame (names too long, a file where a folder is, folders
    without access, more than the disk holds). Raises what the box raises if it does not answer.
    """
    try:
        await restore(box, change)
    except BoxLost:
        raise
    except (BoxBroken, SandboxError) as e:
        await box.resume()
        return Finding(check, ok=False, detail=str(e))
    return None


async def quiesce(box: Box, check: str = "nothing runs when reports are taken") -> Finding:
    """Kill all processes. The finding says whether any survived."""
    report = await box.quiesce()
    return Finding(check, report.ok, f"{report.killed} killed; survived: {', '.join(report.remaining) or 'none'}")


def with_scratch(change: Change, path: str) -> Change:
    """The change, with an empty folder that the tests' user may write to."""
    return Change((*change.files, ChangedFile(path.strip("/"), 0o700)), change.deleted)


async def missing_files(box: Box, plan: TestPlan) -> tuple[str, ...]:
    """The plan's test files that do not exist in the tree."""
    files = tuple(dict.fromkeys(id_files(plan) + plan.test_files))
    script = 'for f; do [ -e "$f" ] || printf "%s\\n" "$f"; done'
    result = await box.exec(ExecRequest(argv=("/bin/sh", "-c", script, "sh", *files), cwd=plan.work_dir, timeout_s=HOUSEKEEPING_S))
    return tuple(result.stdout.decode(errors="surrogateescape").splitlines())


async def run(box: Box, request: ExecRequest) -> ExecResult:
    """Run a test command. Raises `BoxLost` if the machine killed it for lack of memory."""
    return await run_witnessed(box, request.model_copy(update={"output_bytes": LOG_BYTES}))


async def collect(
    box: Box, result: ExecResult, report_path: str, defences: Collection[Defence], *, cpus: float
) -> tuple[CommandOutcome, list[Finding]]:
    """Kill everything that a test command left, and take its report. Raises `BoxLost` if the machine starved it of its `cpus`."""
    spent = cpu_blame.blame(result, cpus=cpus)
    findings: list[Finding] = []
    if Defence.QUIESCE in defences:
        findings.append(await quiesce(box))
    if Defence.OUTSIDE_PARSER in defences:
        report = None if result.timed_out else await fetch_report(box, report_path, findings)
    else:
        report = result.stdout
    await box.resume()
    return _outcome(result, report, spent), findings


def _outcome(result: ExecResult, report: bytes | None, spent: str) -> CommandOutcome:
    return CommandOutcome(
        exit_code=result.exit_code,
        report=report,
        timed_out=result.timed_out,
        duration_s=result.duration_s,
        log_tail=result.text[-LOG_TAIL:],
        note=f"the box's limit of {result.limit_hit} was hit" if result.limit_hit in HARD_LIMITS else "",
        spent=spent,
    )


async def fetch_report(box: Box, path: str, findings: list[Finding]) -> bytes | None:
    """The report's bytes; None if it is missing. None with a finding if it is not a plain file of an acceptable size.

    boxd takes it, since the tests may have replaced any program in the box.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(await box.get([path], max_bytes=REPORT_BYTES_MAX))) as tar:
            member = tar.next()
            if member is not None and member.isreg() and member.name.strip("/") == path.strip("/"):
                stream = tar.extractfile(member)
                return stream.read() if stream else None
        problem = "it is not a regular file"
    except FileNotFoundError:
        return None
    except BoxLost:
        raise
    except (BoxBroken, SandboxError, tarfile.TarError) as e:
        problem = str(e)
    findings.append(Finding("report is a plain file", ok=False, detail=problem))
    return None


def reordered(argv: Sequence[str], sealed: Sequence[str], seed: int) -> list[str]:
    """The same command with its test files in a random order."""
    places = [n for n, a in enumerate(argv) if n and any(path.endswith("/" + a) for path in sealed)]
    files = [argv[n] for n in places]
    random.Random(seed).shuffle(files)  # noqa: S311 - an order, not a secret
    out = list(argv)
    for n, file in zip(places, files, strict=True):
        out[n] = file
    return out
