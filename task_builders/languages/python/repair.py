"""Maps a failure's log to the next recipe to try, by rules. Pure. Tests that need a network are not repaired."""

import re
from collections.abc import Callable

from envfarm.core.recipe import Recipe
from task_builders.languages.profile import Failure, Repair
from task_builders.languages.project import Project
from task_builders.languages.python import recipe as recipes
from task_builders.languages.python.distributions import distribution_of
from task_builders.languages.python.facts import Facts
from task_builders.languages.python.known_packages import BY_FIXTURE, BY_HEADER, BY_OPTION, BY_PROGRAM
from task_builders.languages.python.requirement_lines import name_of

MISSING_MODULE = re.compile(
    r"(?:ModuleNotFoundError|ImportError): No module named '?([A-Za-z_][\w.]*)'?|Error importing plugin \"([\w.]+)\""
)
MISSING_FIXTURE = re.compile(r"fixture '(\w+)' not found")
UNKNOWN_OPTION = re.compile(r"unrecognized arguments: (.+)|no such option: (\S+)")
OWN_OPTIONS = ("--rootdir", "--confcutdir", "--junitxml", "--override-ini", "--continue-on-collection-errors")
OLDEST_RUNNER = "pytest>=3.4,<5"
"""As close to the project's time as a runner with all the required options can be."""
MISSING_HEADER = re.compile(r"fatal error: ([\w./+-]+\.h(?:pp)?): No such file")
MISSING_LIBRARY = re.compile(r"cannot find -l([\w+-]+)")
MISSING_PROGRAM = re.compile(
    r"(?:command '([\w.+/-]+)' failed: No such file|([\w.+-]+): (?:command )?not found"
    r"|No such file or directory: '([\w.+-]+)'|unable to execute '([\w.+-]+)'|Unknown compiler\(s\): \[\['(\w+)'\]"
    r"|linker `([\w.+-]+)` not found)"
)
NO_COMPILER = re.compile(r"no acceptable C(?:\+\+)? compiler found|No CMAKE_C(?:XX)?_COMPILER could be found")
"""Messages of autoconf and CMake; they name no program."""
NO_BUILD_BACKEND = re.compile(
    r"is not installable|editable mode currently requires|"
    r"BackendUnavailable|Cannot import '?([\w.]+)'?|editable mode is not currently supported"
    r"|missing the 'build_editable' hook|does not support editable|No matching distribution found|editable_mode"
    r"|metadata-generation-failed|Getting requirements to build|setup\.py develop"
)
TOO_EARLY = re.compile(r"exclude-newer")
GONE_FROM_SETUPTOOLS = re.compile(
    r"No module named '?(pkg_resources|setuptools\.command\.test|setuptools\._distutils|distutils)|use_2to3 is invalid"
    r"|cannot import name '\w+' from 'setuptools|module 'setuptools\.\w+' has no attribute"
)
REMOVED_FROM_RUNNER = re.compile(
    r"Fixture \"\w+\" called directly|pytest\.yield_fixture|PytestRemovedIn\d|has no attribute '_?(?:get_marker"
    r"|pytest_namespace|funcargnames|yield_fixture|warns|ensuretemp)'|unknown hook|\[pytest\] section in setup\.cfg"
    r"|PluginValidationError|got an unexpected keyword argument '(?:path|fspath|msg)'"
    r"|fixtures? cannot be applied to fixtures|py\.path\.local"
)
WARNING_AS_ERROR = re.compile(
    r"^E\s+(?:pytest\.)?(\w*(?:Deprecation|Removed|Future)\w*(?:Warning)?|PytestUnraisableExceptionWarning"
    r"|PytestUnhandled\w+|PytestConfigWarning): ",
    re.MULTILINE,
)
IGNORED_WARNINGS = (
    "-W ignore::DeprecationWarning -W ignore::PendingDeprecationWarning -W ignore::FutureWarning -W ignore::pytest.PytestWarning"
)
UNSATISFIED = re.compile(
    r"(?:because|Because) (?:there (?:is|are) no versions? of )?([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?(?:[<>=!~]=?[\w.*]+)?(?"
    r": was not found in the package registry| (?:and|has no|cannot))",
    re.IGNORECASE,
)


def repair(project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """The first rule's answer. `recipe` must be the unlocked one, whose requirements can still be changed."""
    for rule in _RULES:
        answer = rule(project, facts, recipe, failure)
        if answer is not None and answer.recipe.digest != recipe.digest:
            return answer
    return None


def _missing_system_package(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    if failure.stage == "lock":
        return None
    wanted: list[str] = []
    for header in MISSING_HEADER.findall(failure.log):
        wanted += [p for h, p in BY_HEADER.items() if header == h or header.endswith("/" + h)]
    wanted += [f"lib{library.lower()}-dev" for library in MISSING_LIBRARY.findall(failure.log)]
    for found in MISSING_PROGRAM.findall(failure.log):
        wanted += [BY_PROGRAM[p] for p in (name.rsplit("/", 1)[-1] for name in found if name) if p in BY_PROGRAM]
    if NO_COMPILER.search(failure.log):
        wanted.append(BY_PROGRAM["cc"])
    missing = [w for w in dict.fromkeys(wanted) if w not in recipe.system_packages]
    if not missing:
        return None
    return Repair(
        recipe.model_copy(update={"system_packages": tuple(sorted({*recipe.system_packages, *missing}))}),
        f"the log lacks something of {', '.join(missing)}",
    )


def _unsatisfied(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """Drop constraints that cannot hold; then a requirement that no release meets; then the bounds of all requirements."""
    if failure.stage != "lock":
        return None
    if recipes.CONSTRAINTS in recipe.files:
        files = {k: v for k, v in recipe.files.items() if k != recipes.CONSTRAINTS}
        return Repair(recipes.in_box(recipe.model_copy(update={"files": files})), "the project's constraints cannot be satisfied")
    requirements = recipes.requirements_of(recipe)
    if TOO_EARLY.search(failure.log) and not recipes.is_later(recipe):
        return Repair(recipes.later(recipe), "a requirement was released in the commit's own month")
    blamed = {m.lower().replace("_", "-") for m in UNSATISFIED.findall(failure.log)}
    absent = [w for w in requirements if name_of(w) in blamed and _is_absent(name_of(w), failure.log)]
    if absent and len(absent) < len(requirements):
        rest = [w for w in requirements if w not in absent]
        # If no release meets a bound, the bound is dropped; if the index does not know a name, the requirement is dropped.
        unbound = [u for w in absent if (u := _unbound(w)) != w]
        return Repair(recipes.with_requirements(recipe, [*unbound, *rest]), "no release meets a requirement")
    loose = [_unbound(w) for w in requirements]
    if sorted(loose) == sorted(requirements):
        return None
    return Repair(recipes.with_requirements(recipe, loose), "the requirements contradict each other")


def _build_backend(project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """Replace an editable install that the old back end cannot do by a path file; add a module that the build lacks."""
    if failure.stage != "build" or "pip install" not in failure.log or not NO_BUILD_BACKEND.search(failure.log):
        return None
    if GONE_FROM_SETUPTOOLS.search(failure.log) and (older := _older(recipe, "setuptools", ("setuptools<81", "setuptools<58"))):
        return Repair(older, "setup.py needs an older setuptools")
    missing = _missing_distribution(facts, failure.log)
    if missing and (added := _added(facts, recipe, [missing])) is not None:
        return Repair(added, f"the build imports {missing}")
    steps = recipes.path_steps(facts, recipes.version_of(project, facts))
    return Repair(recipe.model_copy(update={"project": steps}), "the back end cannot install in place") if recipe.project != steps else None


def _old_setuptools(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    if not GONE_FROM_SETUPTOOLS.search(failure.log):
        return None
    older = _older(recipe, "setuptools", ("setuptools<81", "setuptools<58"))
    return Repair(older, "something imports what newer setuptools no longer has") if older else None


def _unknown_option(_project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    options = [o for found in UNKNOWN_OPTION.findall(failure.log) for o in (found[0] or found[1]).split() if o.startswith("-")]
    wanted = []
    for option in options:
        name = option.split("=")[0]
        known = max((k for k in BY_OPTION if name.startswith(k)), key=len, default="")
        wanted.append(BY_OPTION[known] if known else "")
    added = _added(facts, recipe, [w for w in wanted if w])
    return Repair(added, f"the runner needs a plugin for {' '.join(options[:3])}") if added else None


def _newer_runner(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """A runner that does not know the farm's own options is too old, whatever the project's pins say."""
    said = " ".join(a or b for a, b in UNKNOWN_OPTION.findall(failure.log))
    if not any(option in said for option in OWN_OPTIONS):
        return None
    requirements = [OLDEST_RUNNER if name_of(w) == "pytest" else w for w in recipes.requirements_of(recipe)]
    changed = requirements if OLDEST_RUNNER in requirements else [*requirements, OLDEST_RUNNER]
    return Repair(recipes.with_requirements(recipe, changed), "the runner is too old to be run here")


def _missing_module(_project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    wanted = [
        d for m in dict.fromkeys(a or b for a, b in MISSING_MODULE.findall(failure.log)) if (d := distribution_of(m, facts.own_modules))
    ]
    added = _added(facts, recipe, wanted)
    return Repair(added, f"tests import modules of {', '.join(wanted)}") if added else None


def _missing_fixture(_project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    wanted = [BY_FIXTURE[f] for f in dict.fromkeys(MISSING_FIXTURE.findall(failure.log)) if f in BY_FIXTURE]
    added = _added(facts, recipe, wanted)
    return Repair(added, f"tests use fixtures of {', '.join(wanted)}") if added else None


def _older_runner(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    if failure.stage != "tests" or not REMOVED_FROM_RUNNER.search(failure.log):
        return None
    older = _older(recipe, "pytest", ("pytest<8", "pytest<7", "pytest<5", "pytest<4"))
    return Repair(older, "tests use what the runner no longer has") if older else None


def _warnings(_project: Project, _facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    if failure.stage != "tests" or not WARNING_AS_ERROR.search(failure.log) or "PYTEST_ADDOPTS" in recipe.env:
        return None
    env = {**recipe.env, "PYTEST_ADDOPTS": IGNORED_WARNINGS}
    return Repair(recipe.model_copy(update={"env": env}), "newer packages warn, and the project makes errors of warnings")


def _not_importable(project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """Modules in the checkout that are not found: add their directory to the path."""
    if failure.stage != "tests":
        return None
    missing = [m.partition(".")[0] for found in MISSING_MODULE.findall(failure.log) for m in found if m]
    folders: set[str] = set()
    for module in missing:
        if module in facts.own_modules:
            holders = [p for p in project.tree.paths() if re.search(rf"(?:^|/){re.escape(module)}(?:/__init__\.py|\.py)$", p)]
            folders.update(re.sub(rf"/?{re.escape(module)}(?:/__init__\.py|\.py)$", "", p) for p in holders[:1])
    known = [p for p in recipe.env.get("PYTHONPATH", "").split(":") if p]
    wanted = [f"{recipe.work_dir}/{f}".rstrip("/") for f in sorted(folders)]
    if not wanted or set(wanted) <= set(known):
        return None
    env = {**recipe.env, "PYTHONPATH": ":".join(dict.fromkeys([*known, *wanted]))}
    return Repair(recipe.model_copy(update={"env": env}), "tests import modules of the checkout by name")


def _missing_distribution(facts: Facts, log: str) -> str:
    return next(
        (d for m in dict.fromkeys(a or b for a, b in MISSING_MODULE.findall(log)) if (d := distribution_of(m, facts.own_modules))), ""
    )


def _added(facts: Facts, recipe: Recipe, names: list[str]) -> Recipe | None:
    """The recipe with further requirements; None if it has them all, or an index must not be asked for them."""
    have = {*map(name_of, recipes.requirements_of(recipe)), *facts.own_names, *facts.elsewhere, *facts.addressed}
    new = [n for n in dict.fromkeys(names) if name_of(n) not in have]
    return recipes.with_requirements(recipe, [*recipes.requirements_of(recipe), *new]) if new else None


def _older(recipe: Recipe, name: str, bounds: tuple[str, ...]) -> Recipe | None:
    """The next lower bound for a package; None if all were tried or the recipe cannot be changed."""
    requirements = recipes.requirements_of(recipe)
    tried = [b for b in bounds if b in requirements]
    rest = bounds[bounds.index(tried[-1]) + 1 :] if tried else bounds
    if not requirements or not rest:
        return None
    return recipes.with_requirements(recipe, [w for w in requirements if w not in tried and w != name] + [rest[0]])


def _packages_of_ci(_project: Project, facts: Facts, recipe: Recipe, failure: Failure) -> Repair | None:
    """The last resort: the packages that the project's own CI installs."""
    missing = sorted(set(facts.ci.script.apt) - set(recipe.system_packages))
    if failure.stage == "lock" or not missing:
        return None
    packages = tuple(sorted({*recipe.system_packages, *missing}))
    return Repair(recipe.model_copy(update={"system_packages": packages}), "the project's CI installs system packages")


def _is_absent(name: str, log: str) -> bool:
    return bool(re.search(rf"no versions? of {re.escape(name)}\b|{re.escape(name)} was not found", log, re.IGNORECASE))


def _unbound(requirement: str) -> str:
    name = re.match(r"[A-Za-z0-9._-]+(?:\[[^\]]*\])?", requirement)
    marker = requirement.partition(";")[2]
    return (name.group(0) if name else requirement) + (f" ;{marker}" if marker else "")


_RULES: tuple[Callable[[Project, Facts, Recipe, Failure], Repair | None], ...] = (
    _missing_system_package,
    _unsatisfied,
    _build_backend,
    _newer_runner,
    _unknown_option,
    _missing_module,
    _missing_fixture,
    _old_setuptools,
    _not_importable,
    _older_runner,
    _warnings,
    _packages_of_ci,
)
