"""The habits of the house that no linter knows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(p for top in ("envfarm", "task_builders", "tests", "examples") for p in (ROOT / top).rglob("*.py"))
BANNED_NAMES = re.compile(r"(^|_)(utils?|helpers?|common|misc|manager|handler)(_|$)|^base$")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):  # noqa: TID251 - alone in its process
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_module_stays_small_and_well_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600
    assert not BANNED_NAMES.search(path.stem)
    for function in functions(path):
        assert (function.end_lineno or 0) - function.lineno < 80, function.name
        arguments = [
            a for a in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs] if a.arg not in ("self", "cls")
        ]
        assert len(arguments) <= 7, function.name


def test_importing_envfarm_and_its_core_costs_no_more_than_pydantic() -> None:
    heavy = ("ray", "kubernetes", "docker", "sqlalchemy", "httpx", "rich", "click", "git", "starlette", "uvicorn", "tokenizers", "jinja2")
    code = f"import sys, envfarm, envfarm.core.protocols; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_builds_and_services_import_no_client_that_they_were_not_asked_for() -> None:
    clients = ("docker", "kubernetes", "ray", "githubkit", "py7zr", "aiohttp")
    code = f"import sys, envfarm.cli.serve, task_builders.commands; print([m for m in {clients} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


def test_grading_runs_on_the_standard_library_alone() -> None:
    modules = "envfarm.grading.procedure, envfarm.grading.reports"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {modules}; print('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "False"


def rooms() -> Iterator[tuple[Path, bool]]:
    """What the plan of the house names as directories and modules, and whether it says that they are still to come."""
    plan = (ROOT / "docs/architecture.md").read_text()
    house = top = ROOT
    for line in plan.split("## 2. Packages")[1].split("```")[1].splitlines():
        indent = len(line) - len(line.lstrip())
        said, comes = line.strip().removeprefix("◇ "), line.strip().startswith("◇ ")
        if folder := re.match(r"([a-z_]+)/(?= |$)", said):
            house = (top if indent else ROOT) / folder[1]
            top = top if indent else house
            yield house, comes
        for module in re.findall(r"(?<![\w/])[a-z_]+\.py", said.split("   ")[0] if comes else said.split("◇")[0]):
            yield (house if indent > 2 else top) / module, comes


def test_the_plan_says_of_every_room_whether_it_is_there() -> None:
    named = list(rooms())
    assert len(named) > 50
    assert [f"{path.relative_to(ROOT)}: {'there' if comes else 'missing'}" for path, comes in named if path.exists() == comes] == []


def test_make_help_lists_at_most_twelve_targets() -> None:
    listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert 5 <= len(listed) <= 12
