"""Resolves a recipe's requirements to a lock, on this machine, without running any package's code: only wheels and their metadata are used.

What only a build can find out (packages without wheels) is left to the box: the recipe is then resolved there.
"""

import asyncio
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.recipe import Recipe
from envfarm.images.outages import HINT, outage_in
from envfarm.images.scratch import scratch_directory
from task_builders.languages.python import recipe as recipes

RESOLVE_TIMEOUT_S = 180.0
OWN_WORK = 0.5
"""A resolver that computed for this share of its time did not wait for anybody: the requirements are too hard for it."""
NEEDS_BUILD = (
    "no usable wheels",
    "building source distributions is disabled",
    "--no-build",
    "only-binary",
    "has no wheels",
    "building from source is disabled",
    "no wheels with a matching",
)
ALWAYS_THERE = "pip"
"""An index that does not have this package as of the date either has nothing: a wrong address, a portal's page, files without dates."""
OS_ERROR = re.compile(r"\(os error (\d+)\)")


class UvResolver:
    """`uv pip compile` with builds disabled, in an empty directory, for Linux."""

    def __init__(
        self,
        uv: Path,
        *,
        variables: Mapping[str, str],
        cache: Path | None = None,
        machine: str = "",
        timeout_s: float = RESOLVE_TIMEOUT_S,
    ) -> None:
        """`variables` are settings of the index and proxy (`Settings.variables`); the program sees only these, PATH and HOME.

        `machine` is the architecture of boxes, `x86_64` or `aarch64`; empty for this machine's.
        """
        self._uv = uv
        self._env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "UV_PYTHON_DOWNLOADS": "never", **variables}
        self._cache = cache
        self._machine = {"arm64": "aarch64"}.get(machine, machine) or platform.machine()
        self._timeout_s = timeout_s

    async def lock(self, recipe: Recipe) -> Recipe:
        """The recipe with pinned versions; unpinned if a package must be built to be known.

        Raises `ImageError` if nothing satisfies it, with the system's error as its cause where one is told, and `BuildOutage` if the index
        does not answer, not in time, refuses or has nothing at all, or if the resolver was killed.
        """
        if recipes.REQUIREMENTS not in recipe.files:
            return recipe
        lock, errors = await self._compile(recipe, self._cache)
        if lock:
            return recipes.with_lock(recipe, _normal(lock))
        if any(mark in errors for mark in NEEDS_BUILD):
            return recipes.in_box(recipe)
        said = f"no set of packages satisfies the requirements: {errors.strip()[-3000:]}"
        if system := OS_ERROR.search(errors):
            raise ImageError(said) from OSError(int(system[1]), os.strerror(int(system[1])))
        await self._check_index(recipe)
        raise ImageError(said)

    async def _check_index(self, recipe: Recipe) -> None:
        """Raises `BuildOutage` if the index has nothing for such recipes. Asks it anew: what is cached says nothing of how it is now."""
        probe = recipe.model_copy(update={"files": {recipes.REQUIREMENTS: f"{ALWAYS_THERE}\n"}})
        lock, errors = await self._compile(probe, None)
        if not lock and not any(mark in errors for mark in NEEDS_BUILD):
            said = f"the index does not even have {ALWAYS_THERE} as of {recipe.resolved_at:%Y-%m-%d}: {errors.strip()[-1000:]}"
            raise BuildOutage(said, hint="check its address, and whether something answers in its place; then run the same command again")

    async def _compile(self, recipe: Recipe, cache: Path | None) -> tuple[str, str]:
        """The lock, empty where there is none, and what the resolver said."""
        with scratch_directory() as folder:
            arguments = await asyncio.to_thread(self._arguments, recipe, folder, cache or folder / "cache")
            status, output, errors = await _run([str(self._uv), *arguments], cwd=str(folder), env=self._env, timeout_s=self._timeout_s)
        if status == 0 and output.strip():
            return output, errors
        if outage := outage_in(errors):
            raise outage
        if status < 0 or not errors.strip():
            how = f"by signal {-status}" if status < 0 else f"with status {status} and without a word"
            raise BuildOutage(f"the resolver was ended {how}", hint="check the machine's memory, then run the same command again")
        return "", errors

    def _arguments(self, recipe: Recipe, folder: Path, cache: Path) -> list[str]:
        requirements, constraints = folder / "requirements.in", folder / "constraints.txt"
        requirements.write_text(recipe.files[recipes.REQUIREMENTS])
        constraints.write_text(recipe.files.get(recipes.CONSTRAINTS, ""))
        arguments = ["pip", "compile", "-q", "--no-config", "--no-build", "--no-header", "--no-annotate", *recipes.dated(recipe).split()]
        arguments += ["--python-version", _minor(recipe.toolchain.version), "--python-platform", f"{self._machine}-manylinux_2_28"]
        arguments += [word for own in recipes.own_names(recipe) for word in ("--no-emit-package", own)]
        return [*arguments, "--cache-dir", str(cache), "-c", str(constraints), str(requirements)]


async def _run(argv: list[str], *, cwd: str, env: dict[str, str], timeout_s: float) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*argv, cwd=cwd, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    except TimeoutError as e:
        raise too_slow(timeout_s, _cpu_s(process.pid)) from e
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace"), errors.decode(errors="replace")


def too_slow(timeout_s: float, used_s: float) -> ImageError:
    """The error for a resolver's timeout: the requirements if it computed (`used_s` of CPU time), else an index or machine that kept it
    waiting.
    """
    said = f"resolving took longer than {timeout_s:.0f} s, of which the resolver computed for {used_s:.0f} s"
    return ImageError(said) if used_s >= OWN_WORK * timeout_s else BuildOutage(said, hint=HINT)


def _cpu_s(pid: int) -> float:
    """CPU time of a child process that has not been waited for. 0 if unknown, so that the resolver is not blamed."""
    try:
        user, system = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[11:13]
    except OSError:
        return 0.0
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _normal(lock: str) -> str:
    """Only the pins, sorted: an equal lock must be an equal text."""
    return "\n".join(sorted(line.strip() for line in lock.splitlines() if "==" in line and not line.startswith("#"))) + "\n"
