"""Which names the environment's libraries use: theirs are nobody's to guess. Called by the gate of sufficiency."""

import shlex
from collections.abc import Collection

from envfarm.core.errors import GraderError
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest

SEARCH_TIMEOUT_S = 120.0
FOLDERS = ("/opt", "/usr/lib/python3", "/usr/local/lib")
ASK_FOR_STANDARD_LIBRARY = "import sysconfig;print(sysconfig.get_path('stdlib'))"


async def used_by_libraries(box: Box, names: Collection[str], *, python: str) -> frozenset[str]:
    """Those of the names that stand in a library's source outside the work dir. Raises `GraderError` where the box cannot be searched."""
    if not names:
        return frozenset()
    script = (
        f"std=$({shlex.quote(python)} -c {shlex.quote(ASK_FOR_STANDARD_LIBRARY)}); cat > /tmp/.names; "
        f"grep -rhowFs --include='*.py' --include='*.pyi' -f /tmp/.names {' '.join(FOLDERS)} $std | sort -u; rm -f /tmp/.names"
    )
    lines = "".join(f"{name}\n" for name in sorted(names)).encode()
    result = await box.exec(ExecRequest(shell=script, cwd="/", stdin=lines, timeout_s=SEARCH_TIMEOUT_S))
    if result.timed_out:
        raise GraderError("the search of the libraries for names did not end")
    return frozenset(result.stdout.decode(errors="replace").split())
