"""Makes recipes of facts: the ladder of a Python project. Pure.

The shared layer contains only third-party packages, pinned. The names of the project and of other packages in its tree are never among
them, even if the runner itself depends on one: a release in the layer might contain the fix. The project steps install these packages in
place, offline, with the back ends that their own metadata name.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Sequence
from datetime import datetime

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from task_builders.languages.project import Project
from task_builders.languages.python import path_install, wanted
from task_builders.languages.python.facts import Facts
from task_builders.languages.python.known_packages import NOT_BEFORE
from task_builders.languages.python.members import Member
from task_builders.languages.python.metadata import Metadata
from task_builders.languages.python.requirement_lines import name_of, plain_all
from task_builders.languages.python.versions import Choice, choices, minor_of, month_after
from task_builders.languages.python.wanted import Breadth

VENV_PYTHON = "/opt/venv/bin/python"
REQUIREMENTS = "/opt/envfarm/requirements.in"
CONSTRAINTS = "/opt/envfarm/constraints.txt"
LOCKED = "/opt/envfarm/requirements.txt"
OWN_NAMES = "# project: "
"""First line of `REQUIREMENTS`: the names that must not be installed from an index."""
LATER = "# resolved as of the next month\n"
MAX_RUNGS = 7
UNKNOWN_VERSION = "99.0.0"
RELEASE_HEADING = re.compile(r"^(?:#+\s*|=+\s*)?(?:[Vv]ersion\s+|[Rr]elease\s+)?\[?v?(\d+\.\d+(?:\.\d+)?)\b", re.MULTILINE)
CHANGELOGS = re.compile(r"^(?:docs?/)?(?:CHANGE(?:S|LOG|LOGS)|HISTORY|NEWS|RELEASES?)(?:\.(?:md|rst|txt))?$", re.IGNORECASE)
SAFE_ENV = re.compile(
    r"^(?!PATH$|HOME$|LD_|VIRTUAL_ENV|PIP_|UV_|TOX|COV|CODECOV|CI$|FORCE_COLOR|PY_COLORS|PYTHONWARNINGS|PYTHONHASHSEED"
    r"|PYTEST_ADDOPTS|GITHUB_|TRAVIS)[A-Za-z_]\w*$"
)
BASE_ENV = {"VIRTUAL_ENV": "/opt/venv", "TZ": "UTC", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}


def ladder(project: Project, facts: Facts, date: datetime, toolchains: Sequence[Toolchain]) -> list[Recipe]:
    """Recipes to try: what the tests name with the best interpreter, then more packages, then the next interpreter, then fewer packages."""
    named = [*facts.ci.pythons, *facts.tox.pythons, *facts.metadata.pythons]
    available = [t.version for t in toolchains if t.name == "python"]
    options = choices(named, facts.metadata.requires_python, date, available, pinned=facts.pinned_python)
    rungs: list[Recipe] = []
    for choice, breadth, locked in _rungs(options, has_lock=bool(facts.locked)):
        recipe = _recipe(project, facts, choice, breadth, use_lock=locked)
        if all(recipe.layer_digest != r.layer_digest for r in rungs):
            rungs.append(recipe)
    return rungs[:MAX_RUNGS]


def path_steps(facts: Facts, version: str) -> tuple[InstallStep, ...]:
    """Steps that make the checkout importable without a build back end."""
    return tuple(_by_path(package, version) for package in facts.packages)


def version_of(project: Project, facts: Facts) -> str:
    """A version for a project that computes its own from tags: the one after its latest known release."""
    if (own := _parsed(facts.metadata.version)) is not None:
        return str(own)
    for text in (project.latest_release, _logged_release(project)):
        if (release := _parsed(text)) is not None:
            numbers = [*release.release, 0, 0][:3]
            return f"{numbers[0]}.{numbers[1]}.{numbers[2] + 1}"
    return UNKNOWN_VERSION


def in_box(recipe: Recipe) -> Recipe:
    """The recipe with its dependencies resolved in the box, for those whose requirements only a build can find out."""
    exclude = "".join(f" --no-emit-package {shlex.quote(own)}" for own in own_names(recipe))
    constraints = f" -c {CONSTRAINTS}" if CONSTRAINTS in recipe.files else ""
    resolve = (
        f"uv pip compile -q --no-config --python {VENV_PYTHON} {dated(recipe)}{exclude}{constraints}"
        f" -o /opt/venv/requirements.txt {REQUIREMENTS}"
    )
    install = f"uv pip install -q --no-config --python {VENV_PYTHON} --no-deps {dated(recipe)} -r /opt/venv/requirements.txt"
    steps = (
        _venv_step(),
        InstallStep(run=resolve, why="resolved as of the commit's month"),
        *_install_steps(recipe, install),
    )
    return recipe.model_copy(update={"dependencies": steps})


def with_lock(recipe: Recipe, lock: str) -> Recipe:
    """The recipe with its lock in place of its requirements."""
    files = {k: v for k, v in recipe.files.items() if k not in {REQUIREMENTS, CONSTRAINTS}} | {LOCKED: lock}
    install = f"uv pip install -q --no-config --python {VENV_PYTHON} --no-deps --no-build -r {LOCKED}"
    return recipe.model_copy(update={"files": files, "dependencies": (_venv_step(), *_install_steps(recipe, install))})


def requirements_of(recipe: Recipe) -> list[str]:
    """The requirements of a recipe that is not locked yet."""
    return [line for line in recipe.files.get(REQUIREMENTS, "").splitlines() if line and not line.startswith("#")]


def with_requirements(recipe: Recipe, requirements: Sequence[str]) -> Recipe:
    """The recipe with these requirements instead."""
    text = _requirements_text(own_names(recipe), sorted(set(requirements), key=str.lower)) + (LATER if is_later(recipe) else "")
    return recipe.model_copy(update={"files": {**recipe.files, REQUIREMENTS: text}})


def later(recipe: Recipe) -> Recipe:
    """The recipe, resolved as of a month later."""
    moved = in_box(recipe.model_copy(update={"resolved_at": month_after(recipe.resolved_at)}))
    return moved.model_copy(update={"files": {**moved.files, REQUIREMENTS: moved.files[REQUIREMENTS] + LATER}})


def is_later(recipe: Recipe) -> bool:
    """Whether it was already moved: a second month would be too far from the commit."""
    return recipe.files.get(REQUIREMENTS, "").endswith(LATER)


def own_names(recipe: Recipe) -> list[str]:
    """The canonical names of the project's own packages, as recorded in a recipe that is not locked yet."""
    first = recipe.files.get(REQUIREMENTS, "").split("\n", 1)[0]
    return first.removeprefix(OWN_NAMES).split() if first.startswith(OWN_NAMES) else []


def dated(recipe: Recipe) -> str:
    """The resolver's options that restrict it to the recipe's date."""
    options = [f"--exclude-newer {recipe.resolved_at:%Y-%m-%dT%H:%M:%SZ}"]
    for name, until in NOT_BEFORE.items():
        if recipe.resolved_at < datetime.fromisoformat(until):
            options.append(f"--exclude-newer-package {name}={until}")
    return " ".join(options)


def _rungs(options: Sequence[Choice], *, has_lock: bool) -> list[tuple[Choice, Breadth, bool]]:
    found: list[tuple[Choice, Breadth, bool]] = []
    for i, choice in enumerate(options[:3]):
        if has_lock and i == 0:
            found.append((choice, Breadth.TESTS, True))
        found.append((choice, Breadth.TESTS, False))
        if i < 2:  # noqa: PLR2004 - the third interpreter is a last resort
            found.append((choice, Breadth.WIDE, False))
    found.extend((choice, Breadth.BARE, False) for choice in options[:1])
    return found


def _recipe(project: Project, facts: Facts, choice: Choice, breadth: Breadth, *, use_lock: bool) -> Recipe:
    requirements, constraints = wanted.requirements(facts, project.tree, breadth)
    if use_lock:
        apart = {*(name_of(r) for r in requirements if "==" in r), *facts.own_names, *facts.elsewhere}
        constraints = [
            *constraints,
            *plain_all(f"{n}=={v}" for n, v in sorted(facts.locked.items()) if n not in {*wanted.BUILD_BASE, *apart}),
        ]
    files = {REQUIREMENTS: _requirements_text(sorted(facts.own_names), requirements), path_install.PATH: path_install.PROGRAM}
    if constraints:
        files[CONSTRAINTS] = "\n".join(constraints) + "\n"
    recipe = Recipe(
        language="python",
        toolchain=Toolchain(name="python", version=choice.version),
        system_packages=("build-essential",) if facts.compiled else (),
        env=_env(facts),
        dependencies=(),
        files=files,
        project=_project_steps(project, facts),
        resolved_at=choice.resolved_at if breadth is Breadth.TESTS else month_after(choice.resolved_at),
    )
    return in_box(recipe)


def _requirements_text(own: Sequence[str], requirements: Sequence[str]) -> str:
    return "\n".join([*([OWN_NAMES + " ".join(own)] if own else []), *requirements]) + "\n"


def _venv_step() -> InstallStep:
    return InstallStep(run='uv venv -q --no-config --python "$PYTHON" /opt/venv', why="the environment")


def _install_steps(recipe: Recipe, install: str) -> tuple[InstallStep, ...]:
    """Byte code is validated by its source's hash, since a layer need not keep times. Python 3.6 only supports times."""
    if (minor_of(recipe.toolchain.version) or (3, 7)) >= (3, 7):
        return (InstallStep(run=f"PYC_INVALIDATION_MODE=CHECKED_HASH {install}", why="third-party packages"),)
    return (InstallStep(run=f"UV_COMPILE_BYTECODE=0 {install}", why="third-party packages"),)


def _project_steps(project: Project, facts: Facts) -> tuple[InstallStep, ...]:
    """Install the packages of the tree in place, and tell what the project names that is neither in its tree nor asked of an index."""
    version = version_of(project, facts)
    *others, last = (_in_place(package, version) for package in facts.packages)
    installed = {str(canonicalize_name(package.metadata.name)) for package in facts.packages}
    absent = sorted((facts.own_names | facts.elsewhere) - installed)
    told = f"; in none of these packages, and not asked of an index: {', '.join(absent)}" if absent else ""
    return (*others, last.model_copy(update={"why": last.why + told}))


def _in_place(package: Member, version: str) -> InstallStep:
    metadata = package.metadata
    if not metadata.installable or metadata.build_backend.startswith("poetry.masonry"):
        return _by_path(package, version)
    options = "-q --no-deps --no-build-isolation --no-index --no-cache-dir --disable-pip-version-check"
    place = "." if package.directory == "." else shlex.quote(f"./{package.directory}")
    which = "the project itself" if package.directory == "." else f"its package in {package.directory}"
    run = f"{_version_variables(metadata, version)}{VENV_PYTHON} -m pip install {options} -e {place}"
    return InstallStep(run=run, why=f"{which}, in place, by {metadata.build_backend.split(':')[0]}")


def _by_path(package: Member, version: str) -> InstallStep:
    known = {
        "name": package.metadata.name or posixpath.basename(package.directory).strip(".") or "project",
        "version": str(_parsed(package.metadata.version) or version),
        "paths": list(dict.fromkeys(posixpath.normpath(posixpath.join(package.directory, root)) for root in package.source_roots)),
        "entry_points": {g: dict(e) for g, e in package.metadata.entry_points.items()},
    }
    run = f"{VENV_PYTHON} {path_install.PATH} {shlex.quote(json.dumps(known, sort_keys=True))}"
    return InstallStep(run=run, why="no back end installs it in place")


def _version_variables(metadata: Metadata, version: str) -> str:
    """Version tools look for tags, which a checkout lacks. Set in the step only, so that a version does not make another layer."""
    tools = {name_of(r) for r in metadata.build_requires}
    variables = []
    if tools & {"setuptools-scm", "hatch-vcs", "setuptools-git-versioning", "vcs-versioning"}:
        variables.append("SETUPTOOLS_SCM_PRETEND_VERSION")
    if "pbr" in tools:
        variables.append("PBR_VERSION")
    if tools & {"pdm-backend", "pdm-pep517"}:
        variables += ["PDM_BUILD_SCM_VERSION", "PDM_PEP517_SCM_VERSION"]
    if tools & {"poetry-dynamic-versioning", "uv-dynamic-versioning"}:
        variables += ["POETRY_DYNAMIC_VERSIONING_BYPASS", "UV_DYNAMIC_VERSIONING_BYPASS"]
    if not variables and not metadata.version:
        variables = ["SETUPTOOLS_SCM_PRETEND_VERSION"]
    return "".join(f"{v}={version} " for v in variables)


def _env(facts: Facts) -> dict[str, str]:
    said = facts.ci.env | facts.tox.env
    return BASE_ENV | {k: v for k, v in said.items() if SAFE_ENV.match(k) and len(v) < 200}  # noqa: PLR2004 - a setting, no script


def _parsed(text: str) -> Version | None:
    try:
        found = Version(text)
    except InvalidVersion:
        return None
    return found


def _logged_release(project: Project) -> str:
    path = next((p for p in project.tree.paths() if CHANGELOGS.match(p)), "")
    match = RELEASE_HEADING.search(project.tree.read(path))
    return match.group(1) if match else ""
