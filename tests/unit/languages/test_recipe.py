"""The ladder of recipes, and how environments are shared."""

from datetime import UTC, datetime

import pytest

from envfarm.core.recipe import Recipe, Toolchain
from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.project import Project
from task_builders.languages.python import adoption, facts, recipe
from task_builders.languages.python.requirement_lines import name_of

TOOLCHAINS = tuple(Toolchain(name="python", version=v) for v in ("3.8.18", "3.11.7", "3.12.1"))
PYPROJECT = """
[project]
name = "Made_Up"
dynamic = ["version"]
dependencies = ["alpha>=1"]
requires-python = ">=3.8"
[project.optional-dependencies]
test = ["pytest-plugin", "made-up[fast]", "black"]
fast = ["speed"]
docs = ["writer"]
dev = ["tox", "ipdb", "everything"]
[build-system]
requires = ["hatchling", "hatch-vcs"]
build-backend = "hatchling.build"
"""
DATE = datetime(2023, 6, 10, tzinfo=UTC)


def project(files: dict[str, str], *, latest_release: str = "") -> Project:
    return Project("made/up", MemoryTree(files), latest_release)


def climb(files: dict[str, str], *, date: datetime = DATE, latest_release: str = "") -> list[Recipe]:
    asked = project(files, latest_release=latest_release)
    return recipe.ladder(asked, facts.read(asked), date, TOOLCHAINS)


def test_the_first_rung_installs_what_tests_name_and_no_tools() -> None:
    first = climb({"pyproject.toml": PYPROJECT})[0]
    assert first.toolchain.version == "3.11.7"
    expected = {"alpha>=1", "pytest-plugin", "speed", "pytest", "hatchling", "hatch-vcs", "editables", "pip"}
    assert expected <= set(recipe.requirements_of(first))
    assert not {"black", "tox", "writer", "everything"} & set(recipe.requirements_of(first))


def test_a_wider_rung_takes_development_extras_in() -> None:
    wide = climb({"pyproject.toml": PYPROJECT})[1]
    assert "everything" in recipe.requirements_of(wide)
    assert "writer" not in recipe.requirements_of(wide)


def test_a_tool_that_tests_import_is_kept() -> None:
    first = climb({"pyproject.toml": PYPROJECT, "tests/test_a.py": "import black\n"})[0]
    assert "black" in recipe.requirements_of(first)


def test_the_project_itself_is_never_taken_from_the_index() -> None:
    rungs = climb({"pyproject.toml": PYPROJECT.replace("alpha>=1", "made-up")})
    assert rungs
    assert all("made-up" not in "".join(recipe.requirements_of(r)) for r in rungs)
    assert all(any("--no-emit-package made-up" in s.run for s in r.dependencies) for r in rungs)


def test_the_release_is_told_to_the_step_and_does_not_change_the_layer() -> None:
    one, two = (climb({"pyproject.toml": PYPROJECT}, latest_release=v)[0] for v in ("1.2.3", "1.3"))
    assert "SETUPTOOLS_SCM_PRETEND_VERSION=1.2.4 " in one.project[0].run
    assert one.layer_digest == two.layer_digest
    assert one.digest != two.digest


def test_a_lock_makes_equal_layers_of_neighbouring_months() -> None:
    may, june = (climb({"pyproject.toml": PYPROJECT}, date=datetime(2023, m, 2, tzinfo=UTC))[0] for m in (5, 6))
    assert may.layer_digest != june.layer_digest
    assert recipe.with_lock(may, "alpha==1\n").layer_digest == recipe.with_lock(june, "alpha==1\n").layer_digest


def test_the_projects_own_lock_comes_first_as_constraints() -> None:
    files = {"pyproject.toml": PYPROJECT, "uv.lock": '[[package]]\nname = "alpha"\nversion = "1.5"\n'}
    rungs = climb(files)
    assert "alpha==1.5" in rungs[0].files[recipe.CONSTRAINTS]
    assert recipe.CONSTRAINTS not in rungs[1].files


def test_without_metadata_the_checkout_is_put_on_the_path() -> None:
    rungs = climb({"requirements.txt": "alpha\n", "app.py": "", "tests/test_app.py": "import app\n"})
    assert "alpha" in recipe.requirements_of(rungs[0])
    assert "path_install.py" in rungs[0].project[0].run


def test_another_commit_adopts_a_layer_that_meets_its_requirements() -> None:
    old = recipe.with_lock(
        climb({"pyproject.toml": PYPROJECT})[0],
        (
            "alpha==1.4\n"
            "pytest-plugin==2\n"
            "speed==1\n"
            "pytest==7.3\n"
            "pip==23\n"
            "setuptools==67\n"
            "wheel==0.4\n"
            "hatchling==1\n"
            "hatch-vcs==1\n"
            "editables==1\n"
        ),
    )
    wanted = climb({"pyproject.toml": PYPROJECT.replace("alpha>=1", "alpha>=1.2; python_version>'3'")}, latest_release="4.0")[0]
    adopted = adoption.adopt(old, wanted)
    assert adopted is not None
    assert adopted.layer_digest == old.layer_digest
    assert adopted.project == wanted.project


def test_a_layer_that_misses_a_requirement_or_is_of_another_time_is_not_adopted() -> None:
    old = recipe.with_lock(climb({"pyproject.toml": PYPROJECT})[0], "alpha==1.4\n")
    assert adoption.adopt(old, climb({"pyproject.toml": PYPROJECT})[0]) is None
    full = climb({"pyproject.toml": PYPROJECT})[0]
    assert adoption.adopt(full, climb({"pyproject.toml": PYPROJECT}, date=datetime(2024, 12, 1, tzinfo=UTC))[0]) is None


def test_environment_variables_of_tox_are_kept_where_they_are_harmless() -> None:
    tox = "[testenv]\nsetenv =\n  MODE=x\n  LD_PRELOAD=/evil.so\n  PATH=/evil\n  PYTHONHASHSEED=0\ncommands=pytest\n"
    env = climb({"pyproject.toml": PYPROJECT, "tox.ini": tox})[0].env
    assert env["MODE"] == "x"
    assert not {"LD_PRELOAD", "PATH", "PYTHONHASHSEED"} & set(env)


def test_reuploaded_packages_are_dated_by_hand() -> None:
    assert (
        "--exclude-newer-package"
        in climb({"setup.py": "from setuptools import setup\nsetup(name='x')"}, date=datetime(2019, 1, 1, tzinfo=UTC))[0]
        .dependencies[1]
        .run
    )


def test_byte_code_is_not_compiled_where_the_interpreter_cannot() -> None:
    old = Project("made/up", MemoryTree({"setup.py": "from setuptools import setup\nsetup(name='x')"}))
    first = recipe.ladder(old, facts.read(old), DATE, [Toolchain(name="python", version="3.6.15")])[0]
    for each in (first, recipe.with_lock(first, "alpha==1\n")):
        assert each.dependencies[-1].run.startswith("UV_COMPILE_BYTECODE=0 uv pip install")


def test_a_version_that_is_none_never_reaches_the_shell() -> None:
    hostile = PYPROJECT.replace('dynamic = ["version"]', 'version = "1; touch /tmp/x"')
    assert "touch" not in climb({"pyproject.toml": hostile})[0].project[0].run


def test_names_and_locks_cannot_smuggle_options_into_the_resolvers_files() -> None:
    files = {
        "pyproject.toml": PYPROJECT.replace('"Made_Up"', '"x\\n--index-url https://elsewhere.invalid"'),
        "uv.lock": '[[package]]\nname = "alpha"\nversion = "1\\n--index-url https://elsewhere.invalid"\n',
    }
    rungs = climb(files)
    assert rungs
    for rung in rungs:
        assert "elsewhere" not in "".join([*rung.files.values(), *(s.run for s in rung.dependencies)])


def test_constants_of_ci_jobs_are_set_but_for_those_of_the_machinery() -> None:
    jobs = "{test: {env: {MODE: strict, CI: 'true', PIP_INDEX_URL: 'http://x'}, steps: [{run: pytest}]}}"
    files = {".github/workflows/ci.yml": f"jobs: {jobs}", "tox.ini": "[testenv]\nsetenv =\n  LEVEL = 3\ncommands = pytest\n"}
    env = climb(files)[0].env
    assert (env["MODE"], env["LEVEL"]) == ("strict", "3")
    assert not {"CI", "PIP_INDEX_URL"} & set(env)


WORKSPACE = {
    "pyproject.toml": """
[project]
name = "mono"
version = "1"
dependencies = ["mono-core[fast]", "forked", "alpha", "beyond"]
[dependency-groups]
dev = ["pytest", "helpers"]
[tool.uv.sources]
mono-core = {workspace = true}
forked = {git = "https://elsewhere.invalid/forked"}
helpers = {path = "tests/helpers", editable = true}
beyond = [{path = "../beyond", marker = "sys_platform == 'linux'"}]
[tool.uv.workspace]
members = ["packages/*", "examples/*"]
exclude = ["packages/old"]
""",
    "examples/one/pyproject.toml": '[project]\nname = "mono-example"\ndependencies = ["delta"]\n',
    "packages/core/pyproject.toml": """
[project]
name = "Mono.Core"
version = "2"
dependencies = ["beta>=1", "mono-inner"]
[project.optional-dependencies]
fast = ["speed"]
test = ["plugin"]
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[tool.uv.sources]
mono-inner = {path = "../../libs/inner"}
""",
    "packages/core/src/mono_core/__init__.py": "",
    "packages/old/pyproject.toml": '[project]\nname = "mono-old"\n',
    "libs/inner/setup.py": "from setuptools import setup\nsetup(name='mono-inner', install_requires=['gamma'])",
    "tests/helpers/pyproject.toml": '[project]\nname = "helpers"\n',
    "uv.lock": """
[[package]]
name = "beta"
version = "1.5"
source = {registry = "https://elsewhere.invalid"}
[[package]]
name = "mono-inner"
version = "1.5"
source = {path = "libs/inner"}
""",
}
POETRY = {
    "pyproject.toml": """
[tool.poetry]
name = "mono"
version = "1"
[tool.poetry.dependencies]
python = "^3.9"
mono-core = {path = "libs/core", develop = true}
forked = {git = "https://elsewhere.invalid/forked"}
alpha = "^2"
""",
    "libs/core/pyproject.toml": '[tool.poetry]\nname = "mono-core"\nversion = "1"\n[tool.poetry.dependencies]\nbeta = "*"\n',
    "poetry.lock": """
[[package]]
name = "alpha"
version = "2.1"
[[package]]
name = "forked"
version = "2.1"
[package.source]
type = "git"
url = "https://elsewhere.invalid/forked"
""",
}
PIPFILE = {
    "Pipfile": """
[packages]
alpha = "*"
forked = {git = "https://elsewhere.invalid/forked"}
mono-core = {path = "./core", editable = true}
""",
    "core/setup.py": "from setuptools import setup\nsetup(name='mono-core', install_requires=['beta'])",
}
APART = {"mono", "mono-core", "mono-inner", "mono-old", "forked", "helpers", "beyond"}


def names(made: Recipe) -> set[str]:
    return {name_of(r) for r in [*recipe.requirements_of(made), *made.files.get(recipe.CONSTRAINTS, "").split()]}


@pytest.mark.parametrize("files", [WORKSPACE, POETRY, PIPFILE], ids=["workspace", "poetry", "pipfile"])
def test_what_has_a_place_of_its_own_is_never_asked_of_the_index(files: dict[str, str]) -> None:
    rungs = climb({**files, "tests/test_a.py": "import mono_core, forked\n"})
    assert rungs
    assert all({"alpha", "beta"} <= names(rung) and not names(rung) & APART for rung in rungs)
    assert all("--no-emit-package mono-core" in rung.dependencies[1].run for rung in rungs)


def test_packages_of_the_tree_are_installed_in_place_with_what_they_need() -> None:
    first = climb(WORKSPACE)[0]
    assert {"gamma", "speed", "plugin", "hatchling"} <= names(first)
    assert "delta" not in names(first), "of an example that nothing requires"
    assert [step.run.split(" -e ")[1] for step in first.project] == ["./packages/core", "./tests/helpers", "./libs/inner", "."]
    assert first.project[-1].why.endswith("not asked of an index: beyond, forked, mono-example")


def test_without_metadata_at_the_root_the_trees_packages_are_the_project() -> None:
    files = {f"{folder}/pyproject.toml": PYPROJECT.replace("Made_Up", name) for folder, name in (("a", "one"), ("b", "two"), ("docs", "x"))}
    first = climb({**files, "b/templates/{{name}}/setup.py": ""})[0]
    assert {"alpha", "hatch-vcs"} <= names(first)
    assert [step.run.split(" -e ")[1] for step in first.project[:-1]] == ["./a", "./b"]
    assert first.project[0].run.startswith("SETUPTOOLS_SCM_PRETEND_VERSION=")


def test_a_package_of_the_tree_that_is_built_of_crates_is_asked_of_the_index() -> None:
    root = PYPROJECT.replace("Made_Up", "mono").replace('"alpha', '"mono-core==3", "alpha', 1)
    crated = '[project]\nname = "mono-core"\n[build-system]\nrequires = ["maturin>=1,<2"]\nbuild-backend = "maturin"\n'
    rungs = climb(
        {
            "pyproject.toml": root + '[tool.uv.sources]\nmono-core = {workspace = true}\n[tool.uv.workspace]\nmembers = ["core"]\n',
            "core/pyproject.toml": crated,
        }
    )
    assert all("mono-core==3" in recipe.requirements_of(rung) and "--no-emit-package mono-core" not in str(rung) for rung in rungs)
    assert len(rungs[0].project) == 1


def test_directories_in_requirement_files_are_packages_of_the_tree() -> None:
    lines = "alpha\n-e ./libs/core[fast]  # ours\nlibs/more\n-e .\n-r libs/core\n--find-links ./wheels\n-e ../outside\n"
    packages = {
        f"libs/{name}/setup.py": f"from setuptools import setup\nsetup(name='{name}', install_requires=['more'])"
        for name in ("core", "more")
    }
    first = climb({"requirements.txt": lines, "requirements/dev.txt": "-e ../libs/core\n", **packages})[0]
    assert "alpha" in names(first)
    assert not {"core", "more"} & names(first)
    assert [step.run.split(" -e ")[1] for step in first.project[:-1]] == ["./libs/core", "./libs/more"]


def test_a_layer_with_a_released_copy_of_a_package_of_the_tree_is_not_adopted() -> None:
    wanted = climb(POETRY)[0]
    pins = "".join(f"{name}==2\n" for name in [*names(wanted), "mono-core"])
    assert adoption.adopt(recipe.with_lock(wanted, pins.replace("mono-core==2\n", "")), wanted) is not None
    assert adoption.adopt(recipe.with_lock(wanted, pins), wanted) is None


def test_where_no_back_end_can_the_packages_of_the_tree_are_put_on_the_path() -> None:
    asked = project(WORKSPACE)
    runs = [step.run for step in recipe.path_steps(facts.read(asked), "3")]
    assert ['"paths": ["packages/core/src"]' in run and '"version": "2"' in run for run in runs] == [True, False, False, False]


def test_a_directorys_name_is_no_code() -> None:
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["*"]\n',
        "a;touch x/setup.py": "setup(name='a')",
        "-b/setup.py": "setup(name='b')",
    }
    assert all(len(rung.project) == 1 for rung in climb(files))
