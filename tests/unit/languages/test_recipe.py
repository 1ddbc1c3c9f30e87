"""The ladder of recipes, and how environments are shared."""

from datetime import UTC, datetime

from envfarm.core.recipe import Recipe, Toolchain
from envfarm.testing.memory_tree import MemoryTree
from task_builders.languages.project import Project
from task_builders.languages.python import adoption, facts, recipe

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
    assert {"alpha>=1", "pytest-plugin", "speed", "pytest", "hatchling", "hatch-vcs", "editables", "pip"} <= set(recipe.wished(first))
    assert not {"black", "tox", "writer", "everything"} & set(recipe.wished(first))


def test_a_wider_rung_takes_development_extras_in() -> None:
    wide = climb({"pyproject.toml": PYPROJECT})[1]
    assert "everything" in recipe.wished(wide)
    assert "writer" not in recipe.wished(wide)


def test_a_tool_that_tests_import_is_kept() -> None:
    first = climb({"pyproject.toml": PYPROJECT, "tests/test_a.py": "import black\n"})[0]
    assert "black" in recipe.wished(first)


def test_the_project_itself_is_never_taken_from_the_index() -> None:
    rungs = climb({"pyproject.toml": PYPROJECT.replace("alpha>=1", "made-up")})
    assert rungs
    assert all("made-up" not in "".join(recipe.wished(r)) for r in rungs)
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
    assert "alpha" in recipe.wished(rungs[0])
    assert "path_install.py" in rungs[0].project[0].run


def test_another_commit_adopts_a_layer_that_meets_its_wishes() -> None:
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


def test_a_layer_that_misses_a_wish_or_is_of_another_time_is_not_adopted() -> None:
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
