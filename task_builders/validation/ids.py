"""The id gate: nothing in the instruction, the paths or the environment leads to the published fix. Pure."""

from collections.abc import Collection

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.candidates.identifiers import find_ids
from task_builders.candidates.upstream import UNKNOWN, Upstream, upstream_at

SETTLED_VARIABLES = frozenset({"PATH", "PYTHONPATH", "HOME"})
"""Environment variables that hold paths, not text."""


def judge(task: Task, upstream: Upstream = UNKNOWN, top_paths: Collection[str] = ()) -> GateResult:
    """Search everything that the agent is told or finds by name for issue numbers, hashes and upstream addresses.

    Args:
        task: the task; its source's address names the project, and sometimes the fix.
        upstream: further knowledge, such as the hashes of the record that the task was made from.
        top_paths: names of the entries of the work dir.
    """
    texts = {"instruction": task.instruction, "name": task.name, "paths": "\n".join(sorted(top_paths))}
    texts |= {f"variable {name}": value for name, value in task.recipe.env.items() if name not in SETTLED_VARIABLES}
    known = (upstream_at(task.attribution.url), upstream)
    found = {where: ids for where, text in texts.items() if (ids := list(dict.fromkeys(i for u in known for i in find_ids(text, u))))}
    detail = "; ".join(f"{where}: {', '.join(ids[:3])}" for where, ids in found.items()) or f"no ids in {len(texts)} texts"
    return GateResult(gate=Gate.IDS, passed=not found, detail=detail, evidence={"found": found})
