"""Runs a recipe's steps in a box, and turns what the project's steps left into the commit's own checkout. Used by both builders.

It must not give a step more than the contract in `envfarm.images.dockerfile` says.
"""

import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path

from envfarm.core.change import Change
from envfarm.core.errors import ImageError
from envfarm.core.protocols import Sandbox
from envfarm.core.recipe import InstallStep
from envfarm.core.sandbox import ExecRequest, ExecResult, Network
from envfarm.images.outages import full_disk, outage_in
from envfarm.images.tarball import Entry, pack, unpack
from envfarm.memory_blame import run_witnessed

LOG_LINES = 40
STEP_OUTPUT_BYTES = 1 << 20
CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache")


class StepLog:
    """What the steps of one build said, in a file that outlives the build only when it fails."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, run: str, result: ExecResult) -> None:
        """Append one step's output."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"$ {run}\n{result.text}\n[{outcome(result)}, {result.duration_s:.1f} s]\n")

    def discard(self) -> None:
        """The build went well."""
        self.path.unlink(missing_ok=True)


async def run_steps(
    box: Sandbox, steps: Sequence[InstallStep], *, cwd: str, env: Mapping[str, str], timeout_s: float, log: StepLog, network: Network
) -> None:
    """Run them in order, as the agent's user, in a box with this `network`.

    Raises `ImageError` for the first that fails, as `step_failed` tells it, and `BoxLost` if the machine had no memory left for it.
    """
    for number, step in enumerate(steps, 1):
        request = ExecRequest(argv=("sh", "-c", step.run), cwd=cwd, env=dict(env), timeout_s=timeout_s, output_bytes=STEP_OUTPUT_BYTES)
        result = await run_witnessed(box, request, children=True)
        log.add(step.run, result)
        if result.ok:
            continue
        what, how = f"step {number} of {len(steps)} (`{shorten(step.run)}`)", outcome(result)
        # Boxes of builds share the machine's disk: their limit is what the machine has left.
        raise (
            full_disk(f"{what} ended with {how}") if result.limit_hit == "disk" else step_failed(what, how, result.text, log.path, network)
        )


def step_failed(what: str, how: str, output: str, log: Path, network: Network = Network.OPEN) -> ImageError:
    """The error that a failed step becomes: which one, how, and the end of what it said. A `BuildOutage` where the network that it had, or
    the machine's disk, is why.
    """
    if outage := outage_in(output, network):
        return outage
    end = "\n".join(output.strip().splitlines()[-LOG_LINES:])
    return ImageError(f"{what} ended with {how}:\n{end}", hint=f"the whole log is {log}")


def outcome(result: ExecResult) -> str:
    """How a command ended, in words."""
    if result.timed_out:
        return "a timeout"
    limit = f" (the box's {result.limit_hit} limit)" if result.limit_hit else ""
    return f"signal {result.signal}{limit}" if result.exit_code is None else f"status {result.exit_code}{limit}"


def shorten(text: str) -> str:
    """One line of at most 120 characters."""
    line = " ".join(text.split())
    return line if len(line) <= 120 else line[:117] + "…"  # noqa: PLR2004 - see above


def files_archive(files: Mapping[str, str], *, mtime_s: int = 0) -> bytes:
    """A recipe's text files as an archive rooted at `/`."""
    return pack((Entry(path.strip("/"), content=text.encode()) for path, text in files.items()), mtime_s=mtime_s)


def own_checkout(checkout: bytes, change: Change, *, work_dir: str) -> bytes:
    """The checkout with what the project's steps changed, as one archive with the checkout's own time; caches are left out.

    Raises `ImageError` when the steps deleted something of the shared layer: an archive cannot say that.
    """
    root = work_dir.strip("/")
    there = {entry.path: (entry, mtime_s) for entry, mtime_s in unpack(checkout)}
    mtime_s = next((mtime for _, mtime in there.values()), 0)
    files = [f for f in change.files if not _is_cache(f.path)]
    now = {f.path for f in files}
    for path in change.deleted:
        if path in now or _is_cache(path) or any(other.startswith(path + "/") for other in now):
            continue
        if not _below(path, root):
            hint = "let a dependency step remove it, `uv pip uninstall` for instance"
            raise ImageError(f"a project step deleted /{path}, which belongs to the shared layer", hint=hint)
    gone = set(change.deleted)
    kept = [entry for path, (entry, _) in there.items() if not _gone(path, gone)]
    made = [Entry(f.path, f.mode, f.content, f.link) for f in files]
    return pack([*kept, *made], mtime_s=mtime_s)


def _gone(path: str, gone: set[str]) -> bool:
    while path:
        if path in gone:
            return True
        path = posixpath.dirname(path)
    return False


def _below(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")


def _is_cache(path: str) -> bool:
    return any(part in CACHES for part in path.split("/"))
