"""The leak proof: nothing in the agent's box tells the fix. Looks into a fresh box, and decides from what was seen; kept as evidence.

Three ways that a fix leaks: through git's history, as its own lines somewhere in the environment, and as another copy of the project
among the installed packages. Called by the gates; must not change the box that it looks into for anybody else.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from envfarm.core.candidate import Gate
from envfarm.core.errors import GraderError
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.core.validation import GateResult

MIN_LINE_CHARS = 24
"""Shorter lines are found anywhere by chance."""
MAX_LINES = 400
MAX_SHOWN = 20
SCAN_TIMEOUT_S = 300.0
PLACES = ("/opt", "/home", "/root", "/srv", "/tmp", "/var", "/usr/local", "/usr/lib/python3")  # noqa: S108 - inside the box
"""Where an environment's layers may have put something, beside the work dir. The rest of /usr is the base image's own."""
MACHINE_PLACE = "/opt/"
"""Where among these the machine's own folders may lie."""
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
COMMONPLACE = re.compile(
    r"(#|//|/\*|\*\s|from\s+\S+\s+import|import|except|@|if __name__|raise NotImplementedError|return (True|False|None|self)\b|\W+$)"
)
"""Lines that anybody writes, and remarks, which tools write into many projects and which fix nothing."""
NOT_CODE = frozenset({".toml", ".cfg", ".ini", ".json", ".yaml", ".yml", ".lock", ".in", ".txt", ".md", ".rst"})
ENOUGH_LINES = 2
COMMON_PACKAGES = 3
LONG_LINE_CHARS = 60

SEARCH = """
lines=$(mktemp) && cat >"$lines" || exit 2
set --
for place in {places}; do [ -d "$place" ] && set -- "$@" "$place"; done
[ $# -gt 0 ] || exit 0
find -H "$@" {skipped} -type f -readable ! -path "$lines" -print0 |
    LC_ALL=C xargs -0 -r sh -c 'grep -aoFHZs -f "$0" -- "$@"; [ $? -le 1 ]' "$lines"
status=$?; rm -f "$lines"; exit $status
"""
"""-I would skip byte code, in which a docstring or a message of the fix can stand as it is. In the C locale grep is several times as fast.
What root cannot read, nobody in the box can; anything else that grep fails at fails the search."""


def distinctive_lines(source_patch: str, base_text: str) -> tuple[str, ...]:
    """Lines that the fix adds, that are long enough to be its own, and that no line of the base tree holds, in the patch's order."""
    added = (line[1:].strip() for line in _code_lines(source_patch) if line.startswith("+"))
    long_enough = (line for line in added if len(line) >= MIN_LINE_CHARS and not COMMONPLACE.match(line))
    return tuple(dict.fromkeys(line for line in long_enough if line not in base_text and line.isprintable()))[:MAX_LINES]


def _code_lines(source_patch: str) -> Iterator[str]:
    """The patch's lines but for those of settings and prose, which many projects have word for word."""
    kept = False
    for line in source_patch.splitlines():
        if line.startswith("+++ "):
            kept = PurePosixPath(line[4:].strip().strip('"')).suffix not in NOT_CODE
        elif kept and not line.startswith("--- "):
            yield line


def package_names(source_paths: Sequence[str], tree: Collection[str]) -> tuple[str, ...]:
    """The names under which the changed sources are installed: their topmost packages, or themselves where they are in none."""
    packages = {str(PurePosixPath(path).parent) for path in tree if path.endswith("/__init__.py")}
    names: dict[str, None] = {}
    for path in source_paths:
        inside = [str(parent) for parent in PurePosixPath(path).parents if str(parent) in packages]
        if inside:
            names[PurePosixPath(inside[-1]).name] = None
        elif path.endswith(".py") and PurePosixPath(path).name != "setup.py":
            names[PurePosixPath(path).name] = None
    return tuple(names)


async def search(box: Box, *, lines: Sequence[str], packages: Sequence[str], work_dir: str, machine: Sequence[str] = ()) -> dict[str, Any]:
    """What a box shows: files that hold a line of the fix, and installed copies of the project. Raises `GraderError` if it cannot look.

    Below `machine`, which is the host's own and no part of the environment, a copy is no leak unless it holds the fix's lines.
    """
    found_lines = await _files_with(box, lines, work_dir, machine) if lines else {}
    copies = await _copies(box, packages, (work_dir, *machine)) if packages else []
    return {"files_with_fix_lines": found_lines, "installed_copies": copies, "lines_searched": len(lines), "packages": list(packages)}


def judge(history: Mapping[str, Any], seen: Mapping[str, Any]) -> GateResult:
    """The gate's verdict on what was seen; `history` is `envfarm.images.history_proof`'s evidence."""
    told = seen["files_with_fix_lines"]
    copies = seen["installed_copies"]
    problems = [
        "git tells more than the base commit" if not history["clean"] else "",
        f"{len(told)} files outside the fix hold its lines" if told else "",
        f"another copy of the project is installed: {copies[0]}" if copies else "",
    ]
    detail = "; ".join(p for p in problems if p)
    searched = f"no other commit, no line of {seen['lines_searched']} in {', '.join(PLACES)}, no other copy of the project"
    evidence = {"history": dict(history), **seen}
    return GateResult(gate=Gate.LEAK, passed=not detail, detail=detail or searched, evidence=evidence)


async def _files_with(box: Box, lines: Sequence[str], work_dir: str, machine: Sequence[str]) -> dict[str, list[str]]:
    """Files that hold one of the lines, each with the first of them; not below `machine`, but for what a layer put there."""
    patterns = "\n".join(lines) + "\n"
    # Folders below /opt that are the machine's are interpreters, the same for every task.
    skipped = [f"-path {shlex.quote(_literally(m))} -prune -o" for m in machine if m.startswith(MACHINE_PLACE)]
    script = SEARCH.format(places=" ".join(map(shlex.quote, (*PLACES, work_dir))), skipped=" ".join(skipped))
    result = await box.exec(
        ExecRequest(shell=script, user="root", cwd="/", stdin=patterns.encode(errors="replace"), timeout_s=SCAN_TIMEOUT_S)
    )
    if result.timed_out or not result.ok:
        raise GraderError(f"the search for the fix's lines did not end: {result.text[-300:]}")
    found: dict[str, dict[str, None]] = {}
    # A path, NUL, the line, a line end, the next path: a path may hold anything but NUL, and a line of the fix no line end.
    path, *rest = result.stdout.decode(errors="replace").split("\0")
    for piece in rest:
        line, _, following = piece.partition("\n")
        found.setdefault(path, {})[line] = None
        path = following
    return telling(found, len(lines))


def _literally(path: str) -> str:
    """A path as a pattern of `find` that matches nothing else."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def telling(found: Mapping[str, Collection[str]], searched: int) -> dict[str, list[str]]:
    """Of files with lines of the fix those that did not come by them by chance: two lines, a very long one, or all that there are.

    What several installed packages hold is nobody's own (what a tool writes into each, say); copies of one package have one name.
    """
    enough = min(ENOUGH_LINES, searched)
    holders: dict[str, set[str]] = {}
    for path, lines in found.items():
        parents = [part for part in PurePosixPath(path).parent.parts if part != "__pycache__"]
        if any(folder in parents for folder in PACKAGE_FOLDERS):
            for line in lines:
                holders.setdefault(line, set()).add(parents[-1])
    common = {line for line, names in holders.items() if len(names) >= COMMON_PACKAGES}
    found = {path: [line for line in lines if line not in common] for path, lines in found.items()}
    kept = {
        path: list(lines) for path, lines in found.items() if len(lines) >= enough or any(len(line) >= LONG_LINE_CHARS for line in lines)
    }
    return {path: kept[path][:ENOUGH_LINES] for path in sorted(kept)[:MAX_SHOWN]}


async def _copies(box: Box, packages: Sequence[str], left_out: Sequence[str]) -> list[str]:
    """Paths in package folders under the project's import names that are no link into the work dir."""
    names = " -o ".join(f"-path {shlex.quote(f'*/{folder}/{name}')}" for folder in PACKAGE_FOLDERS for name in packages)
    skipped = " -o ".join(f"-path {shlex.quote(folder)}" for folder in ("/proc", "/sys", *left_out))
    command = f"find / \\( {skipped} \\) -prune -o \\( {names} \\) ! -type l -print 2>/dev/null"
    result = await box.exec(ExecRequest(shell=command, user="root", cwd="/", timeout_s=SCAN_TIMEOUT_S))
    if result.timed_out:
        raise GraderError("the search for copies of the project did not end")
    return result.stdout.decode(errors="replace").splitlines()[:MAX_SHOWN]
