"""Which names the environment's libraries bind: nobody has to guess those.

Only libraries count that the project or its tests import, and only names that they define: among all words of all packages nearly every
name occurs.
"""

import json
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from envfarm.core.errors import GraderError
from envfarm.core.plan import TestPlan
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from task_builders.validation import library_probe
from task_builders.validation.sufficiency import Name

SEARCH_TIMEOUT_S = 120.0


async def bound_by_libraries(box: Box, names: Collection[Name], modules: Collection[str], plan: TestPlan) -> frozenset[Name]:
    """The given names that one of the modules or the test runner binds. Raises `GraderError` if the box cannot be searched."""
    if not names:
        return frozenset()
    asked = json.dumps({"names": sorted(names), "modules": sorted(modules), "work_dir": plan.work_dir}).encode()
    source = await _source()
    result = await box.exec(ExecRequest(argv=(_python(plan), "-I", "-c", source), cwd="/", stdin=asked, timeout_s=SEARCH_TIMEOUT_S))
    if result.timed_out or not result.ok:
        why = "took too long" if result.timed_out else f"failed: {result.text[-300:]}"
        raise GraderError(f"the search for names in the libraries {why}")
    try:
        found = {(kind, name) for kind, name in json.loads(result.stdout)}
    except ValueError as e:
        raise GraderError(f"the search for names in the libraries returned no list: {result.text[-300:]}") from e
    return frozenset(name for name in names if name in found)


async def _source() -> str:
    return Path(library_probe.__file__).read_text(encoding="utf-8")  # noqa: ASYNC240 - one small file


def _python(plan: TestPlan) -> str:
    """The interpreter that runs the tests, wherever it appears in a command."""
    words = (word for command in plan.commands for word in command.argv)
    return next((word for word in words if PurePosixPath(word).name.rstrip("0123456789.") == "python"), "python3")
