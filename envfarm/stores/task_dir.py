"""A task as a Harbor 1.4 directory, for people and for exchange. Used by the catalogue's import and export and by `formats.harbor`.

Read and written whole; a task that is written and read again has the same digest. What an exporter adds (Dockerfiles, scripts, the
verifier archive, a report) is left alone by `read` and counts for nothing.
"""

import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import ValidationError

from envfarm.core import difficulty, digest
from envfarm.core.errors import TaskError
from envfarm.core.frozen import Frozen
from envfarm.core.plan import PlanError, TestPlan
from envfarm.core.recipe import Recipe
from envfarm.core.storable import encodable
from envfarm.core.task import Task
from envfarm.grading import guesses
from envfarm.stores import toml_text

SCHEMA = "1.4"
OWN_SCHEMA = "1"
SEALED = ("files/", "canaries/", "cases/")
"""What of `tests/` belongs to the task, beside the plan."""
ADDED = frozenset({"tests/test.sh", "tests/Dockerfile", "tests/verifier.pyz", "tests/environment.json", "validation.json", "README.md"})
"""What exporters add."""
VERIFIER_SLACK_S = 60.0
"""For what the verifier does beside its commands: it ends those itself, and says 0, before Harbor ends it and knows no reward."""
FILE_BYTES_MAX = 256 << 20


class HarborModes(Frozen):
    """What Harbor's own runner is told beside the task. No part of the task: `read` leaves it alone."""

    verifier: Literal["separate", "shared"] = "separate"
    network: Literal["no-network", "public"] = "no-network"
    """Of the agent's container."""


ISOLATED = HarborModes()


def to_files(task: Task, modes: HarborModes = ISOLATED) -> dict[str, bytes]:
    """The directory's own files, by path. Raises `TaskError` for a file of the task whose path is unsafe or not UTF-8."""
    files = {
        "task.toml": toml_text.dump(_head(task, modes)).encode(),
        "instruction.md": task.instruction.encode(),
        "environment/recipe.json": (task.recipe.model_dump_json(indent=1) + "\n").encode(),
        "tests/plan.json": plan_bytes(task),
    }
    files |= {f"solution/{_safe(path)}": data for path, data in task.solution.items()}
    for path, data in task.tests.items():
        if not path.startswith(SEALED):
            raise TaskError(f"tests/{path}: a task's sealed files lie under one of {', '.join(SEALED)}")
        files[f"tests/{_safe(path)}"] = data
    return files


def plan_bytes(task: Task) -> bytes:
    """`tests/plan.json`. Raises `TaskError` if it names a file whose name is not UTF-8."""
    try:
        return task.plan.to_json().encode()
    except UnicodeEncodeError as e:
        raise TaskError(f"{task.name}: the plan names something that is not UTF-8: {e}") from e


def write(task: Task, directory: Path, extra: Mapping[str, bytes] | None = None, modes: HarborModes = ISOLATED) -> None:
    """Write the directory, with an exporter's files. Raises `TaskError` where it is not empty, or cannot be written."""
    write_files({**to_files(task, modes), **(extra or {})}, directory)


def write_files(files: Mapping[str, bytes], directory: Path) -> None:
    """Write files by their paths; scripts can be started. Raises `TaskError` where the directory is not empty, or cannot be written."""
    try:
        if directory.exists() and any(directory.iterdir()):
            raise TaskError(f"{directory} is not empty", hint="name a directory that does not exist yet")
        for path, data in sorted(files.items()):
            target = directory / _safe(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            target.chmod(0o755 if path.endswith(".sh") else 0o644)
    except OSError as e:
        raise TaskError(f"{directory} cannot be written: {e}") from e


def read(directory: Path) -> Task:
    """Read a directory. Raises `TaskError` naming the file and the key that is missing, unknown or malformed."""
    if not directory.is_dir():
        raise TaskError(f"{directory} is not a directory")
    files: dict[str, bytes] = {}
    for path in _walk(directory):
        name = path.relative_to(directory).as_posix()
        if path.is_symlink() or not path.is_file():
            raise TaskError(f"{path} is not a plain file")
        if path.stat().st_size > FILE_BYTES_MAX:
            raise TaskError(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB")
        if not name.startswith("environment/") or name == "environment/recipe.json":
            files[name] = path.read_bytes()
    try:
        return from_files(files)
    except TaskError as e:
        raise TaskError(f"{directory}: {e}", hint=e.hint) from e


def from_files(files: Mapping[str, bytes]) -> Task:
    """A task from its directory's files. Raises `TaskError` as `read` does."""
    head = _toml(files)
    own = _table(head, "metadata", "envfarm")
    _only(
        own, {"schema_version", "kind", "language", "created_at", "checkout", "recipe", "plan", "attribution", "limits"}, "metadata.envfarm"
    )
    if own.get("schema_version") != OWN_SCHEMA:
        raise TaskError(f"task.toml: metadata.envfarm.schema_version is {own.get('schema_version')!r}, this reads {OWN_SCHEMA!r}")
    recipe = _validated(Recipe, _text(files, "environment/recipe.json"), "environment/recipe.json")
    try:
        plan = TestPlan.from_json(_text(files, "tests/plan.json"))
    except PlanError as e:
        raise TaskError(f"tests/{e}") from e
    _same(own, "recipe", recipe.digest)
    _same(own, "plan", digest.of_bytes(files["tests/plan.json"]))
    named = _table(head, "task")
    values: dict[str, Any] = {
        key: own[key] for key in ("kind", "language", "created_at", "attribution", "limits", "checkout") if key in own
    }
    values |= {"name": named.get("name"), "keywords": tuple(named.get("keywords", ())), "recipe": recipe, "plan": plan}
    parts = _parts(files)
    _require_sealed(plan, parts["tests"])
    values |= {"instruction": _text(files, "instruction.md"), **parts}
    try:
        return Task.model_validate(values)
    except ValidationError as e:
        first = e.errors()[0]
        raise TaskError(f"task.toml: {'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def _parts(files: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
    solution: dict[str, bytes] = {}
    tests: dict[str, bytes] = {}
    for name, data in files.items():
        top, _, rest = name.partition("/")
        if top == "solution":
            solution[rest] = data
        elif top == "tests" and rest.startswith(SEALED):
            tests[rest] = data
        elif name not in ADDED | {"task.toml", "instruction.md", "environment/recipe.json", "tests/plan.json"}:
            raise TaskError(f"{name} has no place in a task", hint=f"sealed files lie under tests/, in one of {', '.join(SEALED)}")
    if "solve.sh" not in solution:
        raise TaskError("solution/solve.sh is missing")
    return {"solution": dict(sorted(solution.items())), "tests": dict(sorted(tests.items()))}


def _require_sealed(plan: TestPlan, tests: Mapping[str, bytes]) -> None:
    """Everything that the plan puts into a box is there: without it each grading would fail, as if the farm were to blame."""
    wanted = {f"files/{path}": "test_files" for path in plan.test_files}
    wanted |= {f"canaries/{canary.template}": "canaries" for canary in plan.canaries}
    for case in plan.cases:
        wanted |= {f"cases/{case.folder}/{path}": "cases" for path in ("expected", *(f"input/{name}" for name in case.inputs))}
    if missing := sorted(path for path in wanted if path not in tests):
        more = f", and {len(missing) - 1} more such files" if len(missing) > 1 else ""
        raise TaskError(f"tests/plan.json: {wanted[missing[0]]} names tests/{missing[0]}, which is not there{more}")
    if plan.canaries and not any("{canaries}" in command.argv for command in plan.commands):
        raise TaskError("tests/plan.json: there are canaries, and no command takes {canaries}")


def _head(task: Task, modes: HarborModes) -> dict[str, object]:
    limits = task.limits
    own: dict[str, object] = {
        "schema_version": OWN_SCHEMA,
        "kind": task.kind,
        "language": task.language,
        "created_at": task.model_dump(mode="json", include={"created_at"})["created_at"],
        "recipe": task.recipe.digest,
        "plan": digest.of_bytes(plan_bytes(task)),
        **({"checkout": task.checkout} if task.checkout else {}),
        "attribution": task.attribution.model_dump(mode="json"),
        "limits": limits.model_dump(mode="json"),
    }
    return {
        "schema_version": SCHEMA,
        "task": {"name": task.name, "keywords": list(task.keywords)},
        "metadata": {"difficulty": difficulty.estimate(task), "envfarm": own},
        "agent": {"timeout_sec": limits.agent_s},
        "verifier": {
            "timeout_sec": verifier_s(task) + VERIFIER_SLACK_S,
            "environment_mode": modes.verifier,
            "user": "root",
            "collect": [{"command": COLLECT.format(work_dir=task.plan.work_dir), "timeout_sec": 60.0, "user": "root"}],
        },
        "environment": {
            "network_mode": modes.network,
            "cpus": math.ceil(limits.cpus),
            "memory_mb": limits.memory_mib,
            "storage_mb": limits.disk_mib,
        },
    }


def verifier_s(task: Task) -> float:
    """What Harbor's verifier has for its commands: its one container sees all the rounds for which the farm takes a box each."""
    return task.limits.verifier_s * guesses.blind_rounds(task.plan)


CHANGE_ARTIFACT = "/logs/artifacts/work.tar"
COLLECT = f"PATH=/usr/bin:/bin; mkdir -p /logs/artifacts && tar --exclude=.git -C / -cf {CHANGE_ARTIFACT} .{{work_dir}}"
"""What Harbor runs in the agent's container when the agent is gone; it collects /logs/artifacts by itself. The verifier compares trees."""


def _toml(files: Mapping[str, bytes]) -> dict[str, Any]:
    try:
        head = tomllib.loads(_text(files, "task.toml"))
    except tomllib.TOMLDecodeError as e:
        raise TaskError(f"task.toml is not TOML: {e}") from e
    if head.get("schema_version") != SCHEMA:
        raise TaskError(f"task.toml: schema_version is {head.get('schema_version')!r}, this reads {SCHEMA!r}")
    return head


def _table(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    for n, key in enumerate(keys):
        found = data.get(key)
        if not isinstance(found, dict):
            raise TaskError(f"task.toml: [{'.'.join(keys[: n + 1])}] is missing")
        data = found
    return dict(data)


def _only(data: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(data) - known):
        raise TaskError(f"task.toml: {where} has unknown keys: {', '.join(unknown)}")


def _same(own: Mapping[str, Any], key: str, found: str) -> None:
    if key in own and own[key] != found:
        raise TaskError(
            f"task.toml: metadata.envfarm.{key} names another digest than the file has", hint="remove the line if the edit is meant"
        )


def _text(files: Mapping[str, bytes], name: str) -> str:
    if name not in files:
        raise TaskError(f"{name} is missing")
    try:
        return files[name].decode()
    except UnicodeDecodeError as e:
        raise TaskError(f"{name} is not UTF-8: {e}") from e


def _validated(kind: type[Recipe], text: str, name: str) -> Recipe:
    try:
        return kind.model_validate_json(text)
    except ValidationError as e:
        first = e.errors()[0]
        raise TaskError(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from e


def _walk(directory: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(directory, followlinks=False):
        folders.sort()
        for name in sorted([*names, *(f for f in folders if (Path(root) / f).is_symlink())]):
            yield Path(root) / name


def _safe(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\0" in path or any(part in ("..", ".") for part in path.split("/")):
        raise TaskError(f"{path!r} is no path inside a task")
    if encodable(path) != path:
        raise TaskError(f"{encodable(path)}: a file's name is not UTF-8")
    return path
