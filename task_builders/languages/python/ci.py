"""What a project's CI files say of its environment: interpreters, packages, variables, installs, test runs. They are never run. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml

from task_builders.languages.project import ProjectTree
from task_builders.languages.python import shell_lines
from task_builders.languages.python.shell_lines import Script

SINGLE_FILES = (
    ".travis.yml", "appveyor.yml", ".appveyor.yml", "azure-pipelines.yml", ".circleci/config.yml", ".gitlab-ci.yml", ".cirrus.yml",
    "bitbucket-pipelines.yml",
)  # fmt: skip
FOLDERS = (".github/workflows/", ".azure-pipelines/", "ci/azure/", ".gitlab/")
SCRIPT_KEYS = frozenset(
    {"run", "script", "before_install", "install", "before_script", "test_script", "bash", "command", "before_test", "commands"}
)
VERSION = re.compile(r"(?<![\d.])3\.\d{1,2}(?![\d])")
WINDOWS = re.compile(r"windows|macos|osx|win32", re.IGNORECASE)
TESTING = re.compile(r"\b(?:pytest|py\.test|tox|nox|unittest|make (?:test|check)|inv(?:oke)? test|hatch (?:run|test))\b")
NOT_TESTING = re.compile(
    r"lint|docs?\b|style|typ(?:e|ing)|publish|release|deploy|wheels?|codeql|coverage-report|pre-commit|bench|fuzz|nightly|downstream",
    re.IGNORECASE,
)
MAX_YAML = 300_000
MAX_NODES = 100_000
"""Limit per file with aliases expanded: aliases can be made to explode, or to contain themselves."""


@dataclass
class CiFacts:
    """What was read, of all files together; test jobs come first."""

    pythons: list[str] = field(default_factory=list)
    script: Script = field(default_factory=Script)
    env: dict[str, str] = field(default_factory=dict)
    """Plain constants of test jobs."""


def read(tree: ProjectTree) -> CiFacts:
    """Read every CI file of the tree."""
    facts = CiFacts()
    files = [p for p in tree.paths() if p in SINGLE_FILES or (p.startswith(FOLDERS) and p.endswith((".yml", ".yaml")))]
    for path in sorted(files, key=lambda p: bool(NOT_TESTING.search(PurePosixPath(p).stem))):
        data = _yaml(tree.read(path))
        if isinstance(data, dict) and not NOT_TESTING.search(PurePosixPath(path).stem):
            _file(data, tree, facts)
    return facts


def _file(data: dict[str, Any], tree: ProjectTree, facts: CiFacts) -> None:
    jobs = _jobs(data)
    for name, job in jobs:
        scripts = list(_scripts(job))
        if not any(TESTING.search(s) for s in scripts) or NOT_TESTING.search(name):
            continue
        facts.pythons.extend(v for v in _pythons(job) if v not in facts.pythons)
        found = shell_lines.read(scripts, tree)
        facts.script.requested.add(found.requested)
        facts.script.tests.extend(found.tests)
        facts.script.apt.extend(found.apt)
        facts.env.update(_env(job.get("env")) | _env(data.get("env")))
    if not jobs:
        return
    addons = data.get("addons")
    apt = addons.get("apt") if isinstance(addons, dict) else None
    packages = apt.get("packages") if isinstance(apt, dict) else apt
    facts.script.apt.extend(p for p in packages if isinstance(p, str)) if isinstance(packages, list) else None


def _jobs(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """A file's jobs; if it has none (Travis, AppVeyor, one-job Azure), the file itself is the job."""
    jobs = data.get("jobs")
    if isinstance(jobs, dict) and not any(k in data for k in ("script", "install", "language")):
        return [(str(k), v) for k, v in jobs.items() if isinstance(v, dict)]
    if isinstance(jobs, list):
        return [(str(j.get("job", "")), j) for j in jobs if isinstance(j, dict)]
    gitlab = [(str(k), v) for k, v in data.items() if isinstance(v, dict) and "script" in v]
    return gitlab or [("", data)]


def _scripts(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            yield from _scripts(value, str(name))
    elif isinstance(node, list):
        for item in node:
            yield from _scripts(item, key)
    elif isinstance(node, str) and key in SCRIPT_KEYS:
        yield node


def _pythons(node: Any, key: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        if WINDOWS.search(str(node.get("os", ""))) and "python" in node and len(node) <= 3:  # noqa: PLR2004 - a matrix row
            return
        for name, value in node.items():
            yield from _pythons(value, str(name))
    elif isinstance(node, list):
        for item in node:
            yield from _pythons(item, key)
    elif re.search(r"python|^py$|^version|image|TOXENV|tox|env|session", key, re.IGNORECASE) and isinstance(node, str | float | int):
        text = str(node)
        yield from VERSION.findall(text)
        yield from (f"3.{m}" for m in re.findall(r"\bpy3(\d{1,2})\b", text))


def _env(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        return {}
    return {str(k): str(v) for k, v in given.items() if isinstance(v, str | int | float) and "$" not in str(v) and "{{" not in str(v)}


def _yaml(text: str) -> Any:
    if len(text) > MAX_YAML:
        return None
    # YAML 1.1 reads an unquoted 3.10 as the number 3.1.
    quoted = re.sub(r"(?<=[\s\[,:-])(3\.\d0)(?=\s*[,\]\n#]|$)", r'"\1"', text)
    try:
        data = yaml.safe_load(quoted)
        return data if _expanded(data, {}) <= MAX_NODES else None
    except (yaml.YAMLError, RecursionError, ValueError):
        return None


def _expanded(node: Any, known: dict[int, int]) -> int:
    """The number of nodes that a walk would visit. Raises `RecursionError` if a node contains itself."""
    if not isinstance(node, dict | list):
        return 1
    if id(node) not in known:
        known[id(node)] = 1 + sum(_expanded(child, known) for child in (node.values() if isinstance(node, dict) else node))
    return known[id(node)]
