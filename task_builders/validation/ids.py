"""The gate of ids: nothing in the instruction, the paths or the environment leads to where the fix is published. Pure."""

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.candidates.identifiers import UNKNOWN, Upstream, find_ids

SETTLED_VARIABLES = frozenset({"PATH", "PYTHONPATH", "HOME"})
"""Variables of the environment whose values are places and no texts."""


def judge(task: Task, upstream: Upstream = UNKNOWN) -> GateResult:
    """Look for issue numbers, hashes and upstream addresses in everything that an agent is told or finds by name."""
    texts = {"instruction": task.instruction, "name": task.name}
    texts |= {f"variable {name}": value for name, value in task.recipe.env.items() if name not in SETTLED_VARIABLES}
    found = {where: list(ids) for where, text in texts.items() if (ids := find_ids(text, upstream))}
    detail = "; ".join(f"{where}: {', '.join(ids[:3])}" for where, ids in found.items()) or f"nothing in {len(texts)} texts"
    return GateResult(gate=Gate.IDS, passed=not found, detail=detail, evidence={"found": found})
