"""The leak proof: nothing in the agent's box reveals the fix. Searches a fresh box and judges what was found, which is kept as evidence.

A fix can leak through git's history, through its own lines somewhere in the environment, or through another copy of the project among the
installed packages. The search must not change what the box shows to anybody else.
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
"""Shorter lines occur anywhere by chance."""
MAX_LINES = 400
MAX_SHOWN = 20
SCAN_TIMEOUT_S = 300.0
PLACES = ("/opt", "/home", "/root", "/srv", "/tmp", "/var", "/usr/local", "/usr/lib/python3")  # noqa: S108 - inside the box
"""Where an environment's layers may have put files, beside the work dir. The rest of /usr belongs to the base image."""
PACKAGE_FOLDERS = ("site-packages", "dist-packages")
STANDARD_LIBRARY = re.compile(r"python3[\d.]*")
COMMONPLACE = re.compile(
    r"(#|//|/\*|\*\s|from\s+\S+\s+import|import|except|@|if __name__|raise NotImplementedError|return (True|False|None|self)\b|\W+$)"
)
"""Lines that anybody writes; comments too, since tools write them into many projects and they fix nothing."""
NOT_CODE = frozenset({".toml", ".cfg", ".ini", ".json", ".yaml", ".yml", ".lock", ".in", ".txt", ".md", ".rst"})
ENOUGH_LINES = 2
COMMON_PACKAGES = 3
LONG_LINE_CHARS = 60

ARCHIVES = ("*.whl", "*.zip", "*.egg")
"""Files whose contents an agent can unpack: an interpreter brings the wheel of an installer along, which has other packages in it."""
SEARCH = """
lines=$(mktemp) && cat >"$lines" || exit 2
set --
for place in {places}; do [ -d "$place" ] && set -- "$@" "$place"; done
[ $# -gt 0 ] || exit 0
find -H "$@" {skipped} -type f -readable ! -path "$lines" -print0 |
    LC_ALL=C xargs -0 -r sh -c 'grep -aoFHZs -f "$0" -- "$@"; [ $? -le 1 ]' "$lines" &&
{{ ! command -v {python} >/dev/null ||
    find -H "$@" {skipped} -type f -readable \\( {archives} \\) -print0 | xargs -0 -r {python} -c {unpacked} "$lines"; }}
status=$?; rm -f "$lines"; exit $status
"""
"""grep runs without -I, which would skip byte code: a docstring or message of the fix can appear there verbatim. In the C locale grep is
several times as fast. Nobody in the box can read what root cannot; any other failure of grep fails the search.
"""


UNPACKED = """
import sys, zipfile
lines = open(sys.argv[1], "rb").read().splitlines()
def members(path):
    left = 1 << 28
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            left -= member.file_size
            if left > 0:
                yield archive, member
def search(path):
    for archive, member in members(path):
        try:
            text = archive.read(member)
        except Exception:
            continue
        for line in lines:
            if line in text:
                sys.stdout.buffer.write(f"{path}!{member.filename}".encode(errors="replace") + b"\\0" + line + b"\\n")
for path in sys.argv[2:]:
    try:
        search(path)
    except Exception:
        pass
"""
"""The same for the files in archives, up to 256 MiB of each. What cannot be read tells nobody anything: projects have broken archives among
their tests, and there are many ways to be broken.
"""


def distinctive_lines(source_patch: str, base_text: str) -> tuple[str, ...]:
    """Lines that the fix adds, long enough to be its own and part of no line of the base tree, in the patch's order."""
    added = (line[1:].strip() for line in _code_lines(source_patch) if line.startswith("+"))
    long_enough = (line for line in added if len(line) >= MIN_LINE_CHARS and not COMMONPLACE.match(line))
    return tuple(dict.fromkeys(line for line in long_enough if line not in base_text and line.isprintable()))[:MAX_LINES]


def _code_lines(source_patch: str) -> Iterator[str]:
    """The patch's lines without those of settings and documents, which many projects share word for word."""
    kept = False
    for line in source_patch.splitlines():
        if line.startswith("+++ "):
            kept = PurePosixPath(line[4:].strip().strip('"')).suffix not in NOT_CODE
        elif kept and not line.startswith("--- "):
            yield line


def package_names(source_paths: Sequence[str], tree: Collection[str]) -> tuple[str, ...]:
    """The names under which the changed sources are installed: their topmost packages, or their own names if they are in none."""
    packages = {str(PurePosixPath(path).parent) for path in tree if path.endswith("/__init__.py")}
    names: dict[str, None] = {}
    for path in source_paths:
        inside = [str(parent) for parent in PurePosixPath(path).parents if str(parent) in packages]
        if inside:
            names[PurePosixPath(inside[-1]).name] = None
        elif path.endswith(".py") and PurePosixPath(path).name != "setup.py":
            names[PurePosixPath(path).name] = None
    return tuple(names)


async def search(
    box: Box,
    *,
    lines: Sequence[str],
    packages: Sequence[str],
    work_dir: str,
    python: str,
    machine: Sequence[str] = (),
    passed_over: Sequence[str] = (),
) -> dict[str, Any]:
    """Find files with lines of the fix and installed copies of the project. Raises `GraderError` if the search fails.

    Below `machine` (directories of the host, not part of the environment) a copy is a leak only if it holds lines of the fix; no lines are
    looked for in those `passed_over`. `python` is an interpreter in the box; without it archives are not looked into.
    """
    found_lines = await _files_with(box, lines, work_dir, python, passed_over) if lines else {}
    copies = await _copies(box, packages, (work_dir, *machine)) if packages else []
    return {"files_with_fix_lines": found_lines, "installed_copies": copies, "lines_searched": len(lines), "packages": list(packages)}


def judge(history: Mapping[str, Any], seen: Mapping[str, Any]) -> GateResult:
    """The gate's verdict on what `search` found; `history` is the evidence of `envfarm.images.history_proof`."""
    files = seen["files_with_fix_lines"]
    copies = seen["installed_copies"]
    problems = [
        "git holds more than the base commit" if not history["clean"] else "",
        f"{len(files)} files hold lines of the fix" if files else "",
        f"another copy of the project is installed: {copies[0]}" if copies else "",
    ]
    detail = "; ".join(p for p in problems if p)
    searched = f"no other commit, no line of {seen['lines_searched']} in {', '.join(PLACES)}, no other copy of the project"
    evidence = {"history": dict(history), **seen}
    return GateResult(gate=Gate.LEAK, passed=not detail, detail=detail or searched, evidence=evidence)


async def _files_with(box: Box, lines: Sequence[str], work_dir: str, python: str, passed_over: Sequence[str]) -> dict[str, list[str]]:
    """Files that hold one of the lines, each with the lines found."""
    patterns = "\n".join(lines) + "\n"
    skipped = " ".join(f"-path {shlex.quote(_escaped(folder))} -prune -o" for folder in passed_over)
    archives = " -o ".join(f"-name {shlex.quote(name)}" for name in ARCHIVES)
    places = " ".join(map(shlex.quote, (*PLACES, work_dir)))
    script = SEARCH.format(places=places, skipped=skipped, archives=archives, python=shlex.quote(python), unpacked=shlex.quote(UNPACKED))
    result = await box.exec(
        ExecRequest(shell=script, user="root", cwd="/", stdin=patterns.encode(errors="replace"), timeout_s=SCAN_TIMEOUT_S)
    )
    if result.timed_out or not result.ok:
        raise GraderError(f"the search for the fix's lines in the box failed or timed out: {result.text[-300:]}")
    found: dict[str, dict[str, None]] = {}
    # Path, NUL, line, newline, next path: a path may contain anything but NUL, and a line of the fix no newline.
    path, *rest = result.stdout.decode(errors="replace").split("\0")
    for piece in rest:
        line, _, following = piece.partition("\n")
        found.setdefault(path, {})[line] = None
        path = following
    return significant(found, len(lines))


def _escaped(path: str) -> str:
    """The path, escaped as a pattern for `find`."""
    return re.sub(r"([\\*?\[])", r"\\\1", path)


def significant(found: Mapping[str, Collection[str]], searched: int) -> dict[str, list[str]]:
    """Files whose lines of the fix are no coincidence: they hold two of them, a very long one, or all that were searched.

    Lines that several installed packages, or modules of the standard library, hold do not count (a tool writes them into each, for
    example). Copies of one package count once.
    """
    enough = min(ENOUGH_LINES, searched)
    holders: dict[str, set[str]] = {}
    for path, lines in found.items():
        parents = [part for part in PurePosixPath(path).parent.parts if part != "__pycache__"]
        if any(folder in parents for folder in PACKAGE_FOLDERS):
            for line in lines:
                holders.setdefault(line, set()).add(parents[-1])
        elif any(STANDARD_LIBRARY.fullmatch(folder) for folder in parents):
            for line in lines:
                holders.setdefault(line, set()).add(PurePosixPath(path).name.partition(".")[0])
    common = {line for line, names in holders.items() if len(names) >= COMMON_PACKAGES}
    found = {path: [line for line in lines if line not in common] for path, lines in found.items()}
    kept = {
        path: list(lines) for path, lines in found.items() if len(lines) >= enough or any(len(line) >= LONG_LINE_CHARS for line in lines)
    }
    return {path: kept[path][:ENOUGH_LINES] for path in sorted(kept)[:MAX_SHOWN]}


async def _copies(box: Box, packages: Sequence[str], left_out: Sequence[str]) -> list[str]:
    """Paths in package directories that have the project's import names and are not links into the work dir."""
    names = " -o ".join(f"-path {shlex.quote(f'*/{folder}/{name}')}" for folder in PACKAGE_FOLDERS for name in packages)
    skipped = " -o ".join(f"-path {shlex.quote(folder)}" for folder in ("/proc", "/sys", *left_out))
    command = f"find / \\( {skipped} \\) -prune -o \\( {names} \\) ! -type l -print 2>/dev/null"
    result = await box.exec(ExecRequest(shell=command, user="root", cwd="/", timeout_s=SCAN_TIMEOUT_S))
    if result.exit_code not in {0, 1}:  # 1 if it could not look into a directory
        raise GraderError(f"the search for copies of the project in the box failed with status {result.exit_code}")
    return result.stdout.decode(errors="replace").splitlines()[:MAX_SHOWN]
