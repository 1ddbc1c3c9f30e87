"""The command that runs a project's tests with pytest and writes a JUnit report. Pure.

The runner reads no configuration file of the checkout: `-c /dev/null`, and the options that the project had at the fix are repeated by
`--override-ini` (in one word: releases before 3.5 would take the words after a separate value, too). So what an agent writes into
pyproject.toml, setup.cfg or tox.ini has no effect. The `xunit1` family names each test's file, in old and new releases.
"""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from envfarm.core.plan import TestCommand
from envfarm.core.recipe import Recipe
from task_builders.languages.project import Project
from task_builders.languages.python import paths
from task_builders.languages.python.facts import Facts

VENV_PYTHON = "/opt/venv/bin/python"
SUITE_TIMEOUT_S = 1800.0
FILES_TIMEOUT_S = 900.0
NOT_REPEATED = frozenset({
    "addopts", "minversion", "required_plugins", "cache_dir", "strict", "strict_markers", "strict_config", "junit_family",
    "junit_suite_name", "junit_logging",
    "console_output_style", "log_cli", "log_cli_level", "log_file", "log_file_level", "junit_duration_report", "verbosity_assertions",
    "testmon", "looponfailroots",
})  # fmt: skip
WITH_VALUE = frozenset({
    "-m", "-k", "-p", "-W", "-n", "-r", "-c", "-o", "--ignore", "--ignore-glob", "--deselect", "--import-mode", "--doctest-glob",
    "--cov", "--cov-report", "--cov-config",
    "--cov-context", "--cov-fail-under", "--maxfail", "--durations", "--durations-min", "--tb", "--color", "--junitxml", "--junit-xml",
    "--junit-prefix", "--rootdir", "--confcutdir", "--basetemp",
    "--numprocesses", "--dist", "--maxprocesses", "--log-level", "--capture", "--verbosity", "--override-ini", "--pythonwarnings",
    "--ds", "--reruns", "--timeout", "--randomly-seed", "--log-file",
})  # fmt: skip
DROPPED = re.compile(
    r"-[xqvslr]+[a-zA-Z]*$|-n\d*$|-c$|--(?:no-)?cov|--strict|--(?:maxfail|exitfirst|quiet|verbos|durations|tb|color|junit"
    r"|html|self-contained|no-header|no-summary|show|full-trace"
    r"|numprocesses|dist|maxprocesses|tx|flake8|black|pep8|pycodestyle|isort|mypy|pylint|ruff|codestyle|pydocstyle|randomly"
    r"|random-order|ff|lf|nf|sw|failed-first|last-failed|new-first"
    r"|stepwise|cache|pdb|rootdir|confcutdir|basetemp|setup-|report-log|testmon|code-highlight|capture|log-"
    r"|disable-pytest-warnings|disable-warnings|force-short|instafail|picked)"
)
SELECTING = re.compile(
    r"--(?:ignore|ignore-glob|deselect|import-mode|doctest-modules|doctest-glob|doctest-continue|ds)(?:=|$)|-[mkp](?:$|\S)"
)
WITHOUT_PLUGIN = re.compile(r"(?:no:)?(?:cacheprovider|randomly|xdist|cov|pytest_cov|random_order|sugar)")
COVERAGE_IN_TESTS = re.compile(r"\bno_cover\b|\bcov\b|\bpytest_cov\b")
"""What tests use of pytest-cov: its marker, its fixture, itself."""
DEFAULT_PATTERNS = ("test_*.py", "*_test.py")


def command(project: Project, facts: Facts, test_files: Sequence[str], recipe: Recipe) -> TestCommand:
    """Run these files as a whole, or the suite if none of them can be collected.

    A project with compiled sources is rebuilt first, since the sources may have changed since the checkout was built.
    """
    work_dir = recipe.work_dir
    targets = [p for p in test_files if collectable(project, p)]
    argv = [
        VENV_PYTHON,
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        f"--rootdir={work_dir}",
        f"--confcutdir={work_dir}",
        "--junitxml={report}",
        "--override-ini=junit_family=xunit1",
    ]
    argv += ["-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:random_order", "--tb=native", "-q"]
    if not _speaks_of_coverage(project):
        argv += ["-p", "no:pytest_cov"]  # coverage is never measured, and loading what measures it takes a fifth of a short run
    # One file that cannot be imported (because its data is a submodule, for example) must not prevent all others.
    argv += ["--continue-on-collection-errors"]
    for key, value in _repeated(project, facts, work_dir):
        argv.append(f"--override-ini={key}={value}")
    argv += ["--override-ini=addopts=", *kept_options(project, facts)]
    argv += targets or suite_targets(project, facts)
    if facts.compiled and recipe.project:
        build = " && ".join(f"{{ {step.run}; }}" for step in recipe.project)
        argv = ["sh", "-c", f'{{ {build}; }} >&2 && exec "$@"', "sh", *argv]
    return TestCommand(tuple(argv), "junit", FILES_TIMEOUT_S if targets else SUITE_TIMEOUT_S, {})


def collectable(project: Project, path: str) -> bool:
    """Whether a file contains tests, so that it can be named to the runner."""
    name = PurePosixPath(path).name
    if not name.endswith(".py") or name in {"conftest.py", "__init__.py"}:
        return False
    text = project.tree.read(path)
    return bool(re.search(r"^\s*(?:async\s+)?def test|^class \w*Test|^class Test|unittest\.TestCase|\bTestCase\)", text, re.MULTILINE))


def _speaks_of_coverage(project: Project) -> bool:
    tests = [path for path in project.tree.paths() if path.endswith(".py") and paths.is_test(path)]
    return any(COVERAGE_IN_TESTS.search(text) for text in project.tree.read_all(tests).values())


def kept_options(project: Project, facts: Facts) -> list[str]:
    """The options that select what is run and how, of configuration and test runs; without reporting, coverage, workers."""
    tree = set(project.tree.paths())
    known = tree | {parent.as_posix() for path in tree for parent in PurePosixPath(path).parents}
    kept = _filtered(facts.pytest.addopts, known, lambda option: not DROPPED.match(option))
    for arguments in (facts.tox.tests or facts.ci.script.tests)[:1]:
        more = _filtered([a for a in arguments if "{" not in a and "$" not in a], known, lambda option: bool(SELECTING.match(option)))
        kept += [] if more == kept else more
    return kept


def suite_targets(project: Project, facts: Facts) -> list[str]:
    """Paths of the suite: none if the configuration gives them, else those of the test runs, else the directories of test modules."""
    if facts.pytest.values.get("testpaths", "").strip():
        return []
    all_paths = project.tree.paths()
    folders = {parent.as_posix() for p in all_paths for parent in PurePosixPath(p).parents}
    for arguments in [*facts.tox.tests, *facts.ci.script.tests]:
        positional = [a.rstrip("/").removeprefix("./") for a in _positional(arguments)]
        if found := [a for a in positional if a in folders or a.split("::")[0] in all_paths]:
            return [] if "." in found else found
    modules = [
        p
        for p in all_paths
        if p.endswith(".py") and paths.is_test(p) and (paths.is_test_module(PurePosixPath(p).name) or p.endswith("/tests.py"))
    ]
    tops = sorted({_top(p) for p in modules if not re.match(r"(?:docs?|examples?|bench\w*)/", p)})
    return tops if len(tops) <= 12 else []  # noqa: PLR2004 - more is a scattered suite, which the runner finds by itself


def _top(path: str) -> str:
    parts = PurePosixPath(path).parts
    for i in range(1, len(parts)):
        if paths.is_test("/".join([*parts[:i], "x.py"])):
            return "/".join(parts[:i])
    return path


def _repeated(project: Project, facts: Facts, work_dir: str) -> list[tuple[str, str]]:
    values = {k: v for k, v in facts.pytest.values.items() if k not in NOT_REPEATED and v}
    if "pythonpath" in values:
        # Relative paths would be resolved against the configuration file's directory, and there is no such file.
        values["pythonpath"] = " ".join(p if p.startswith("/") else f"{work_dir}/{p}" for p in values["pythonpath"].split())
    if "python_files" not in values and (patterns := _patterns(project, facts)):
        values["python_files"] = " ".join([*DEFAULT_PATTERNS, *patterns])
    return sorted(values.items())


def _patterns(project: Project, facts: Facts) -> list[str]:
    """File patterns of suites that were not written for this runner: unittest, and those with other module names."""
    names = [PurePosixPath(p).name for p in project.tree.paths() if p.endswith(".py") and paths.is_test(p)]
    usual = any(n.startswith("test_") or n.endswith("_test.py") for n in names)
    found = [] if usual else [pattern for pattern in ("tests.py", "*_tests.py") if any(n.endswith(pattern.lstrip("*")) for n in names)]
    for arguments in [*facts.tox.tests, *facts.ci.script.tests]:
        if arguments[:1] == ["--unittest"]:
            found += ["tests.py", "*_tests.py"]
            found += [arguments[i + 1] for i, a in enumerate(arguments[:-1]) if a in {"-p", "--pattern"}]
    return list(dict.fromkeys(found))


def _filtered(words: Sequence[str], paths_of_tree: Collection[str], keep: Callable[[str], bool]) -> list[str]:
    """Options to keep, with their values. The word after an unknown long option is its value unless it is a path of the tree."""

    def follows(word: str, after: str) -> bool:
        unknown = word.startswith("--") and "=" not in word and not after.startswith("-")
        return word in WITH_VALUE or (unknown and after.split("::", maxsplit=1)[0].rstrip("/").removeprefix("./") not in paths_of_tree)

    found: list[str] = []
    i = 0
    while i < len(words):
        word = words[i]
        option = word.split("=", 1)[0]
        takes = i + 1 < len(words) and follows(word, words[i + 1])
        value = words[i + 1] if takes else ""
        if word.startswith("-") and keep(word) and not (option.startswith("-p") and WITHOUT_PLUGIN.search(value or word[2:])):
            found += [word, value] if takes else [word]
        i += 2 if takes else 1
    return found


def _positional(words: Sequence[str]) -> list[str]:
    if words[:1] == ["--unittest"]:
        starts = [words[i + 1] for i, w in enumerate(words[:-1]) if w in {"-s", "--start-directory"}]
        return starts or [w.replace(".", "/") for w in words[1:] if not w.startswith("-") and w != "discover"]
    found, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word in WITH_VALUE:
            skip = True
        elif not word.startswith("-") and "{" not in word:
            found.append(word)
    return found
