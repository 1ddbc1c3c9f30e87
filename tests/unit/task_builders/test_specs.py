"""From a candidate to a task's static parts."""

import io
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from envfarm.core.plan import Canary
from envfarm.core.plan import TestCommand as Command
from envfarm.grading.globs import matcher
from envfarm.images.checkout import checkout_archive
from envfarm.testing import small_task
from envfarm.testing.factories import make_task
from envfarm.testing.git_repository import Repository
from task_builders.sources.git import GitRepository
from task_builders.specs import make
from task_builders.specs.protection import influencing
from task_builders.specs.protection import test_globs as globs_of_tests
from task_builders.specs.sealed import sealed_files
from task_builders.specs.solution import solution_files
from task_builders.validation import leak

PATCH = "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+two\n"


@pytest.mark.parametrize("with_git", [True, False])
def test_solution_applies_with_git_and_without(tmp_path: Path, *, with_git: bool) -> None:
    work, solution, programs = tmp_path / "work", tmp_path / "solution", tmp_path / "bin"
    for folder in (work, solution, programs):
        folder.mkdir()
    (work / "a.txt").write_text("one\n")
    for name, data in solution_files(PATCH).items():
        (solution / name).write_bytes(data)
    for program in ("dirname", "patch", "sh", *(["git"] if with_git else [])):
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed")
        (programs / program).symlink_to(found)
    done = subprocess.run(["/bin/sh", str(solution / "solve.sh")], cwd=work, env={"PATH": str(programs)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (work / "a.txt").read_text() == "two\n"


def test_solution_that_does_not_apply_fails(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("three\n")
    for name, data in solution_files(PATCH).items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(["/bin/sh", str(tmp_path / "solve.sh")], cwd=tmp_path, capture_output=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode != 0


def test_patch_keeps_bytes_that_are_no_text() -> None:
    assert solution_files(b"\xff".decode(errors="surrogateescape"))["patch.diff"] == b"\xff"


class Tree(dict[tuple[str, str], bytes]):
    def checked_out(self, commit: str, paths: Sequence[str]) -> dict[str, bytes]:
        return {path: self[commit, path] for path in paths}

    def modes(self, commit: str) -> dict[str, int]:
        return {path: 0o100644 for at, path in self if at == commit}


def test_sealed_files_are_those_of_the_fix_and_what_is_gone_is_removed() -> None:
    tree = Tree({("fix", "tests/a.py"): b"new", ("base", "tests/a.py"): b"old"})
    sealed = sealed_files(tree, "fix", ["tests/a.py", "tests/gone.py"], ["tests/moved.py"])
    assert sealed.tests == {"files/tests/a.py": b"new"}
    assert sealed.removed == ("tests/gone.py", "tests/moved.py")


def test_programs_and_links_are_sealed_as_such(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "project")
    made.commit("Start", {"tests/add.sh": "#!/bin/sh\n", "tests/one.txt": "1", "tests/a [b]*.sh": ""})
    for name in ("add.sh", "a [b]*.sh"):
        (made.path / "tests" / name).chmod(0o755)
    (made.path / "tests/now.txt").symlink_to("one.txt")
    commit = made.commit("Kinds", {})
    paths = ["tests/add.sh", "tests/now.txt", "tests/one.txt", "tests/a [b]*.sh"]
    sealed = sealed_files(GitRepository(made.path), commit, paths)
    assert (sealed.executable, sealed.linked) == (("tests/a [b]*.sh", "tests/add.sh"), ("tests/now.txt",))
    assert sealed.files["tests/now.txt"] == b"one.txt"


ATTRIBUTES = """*.csv text eol=crlf
*.ini text working-tree-encoding=UTF-16LE-BOM
*.txt ident
*.big filter=lfs
tests export-ignore
*.subst export-subst
"""


def test_sealed_files_are_what_the_fixs_checkout_has(tmp_path: Path) -> None:
    made = Repository.make(tmp_path / "project")
    made.git("config", "filter.lfs.smudge", "false")
    given: dict[str, str | bytes | None] = {
        "a.csv": "a,b\n",
        "a.ini": "[a]\n".encode("utf-16"),
        "a.txt": "$Id$\n",
        "a.big": "pointer\n",
        "a.subst": "$Format:%H$\n",
    }
    commit = made.commit("Start", {".gitattributes": ATTRIBUTES, **{f"tests/{name}": data for name, data in given.items()}})
    sealed = sealed_files(GitRepository(made.path), commit, [f"tests/{name}" for name in given])
    with tarfile.open(fileobj=io.BytesIO(checkout_archive(made.path, commit))) as checkout:
        held = {name: checkout.extractfile(f"testbed/{name}") for name in sealed.files}
        assert sealed.files == {name: file.read() for name, file in held.items() if file}
    assert sealed.files["tests/a.csv"] == b"a,b\r\n"
    assert sealed.files["tests/a.subst"] == b"$Format:%H$\n"


KINDS = """diff --git a/run.sh b/run.sh
old mode 100644
new mode 100755
diff --git a/tool.sh b/tool.sh
new file mode 100755
--- /dev/null
+++ b/tool.sh
@@ -0,0 +1 @@
+#!/bin/sh
diff --git a/now b/now
new file mode 120000
--- /dev/null
+++ b/now
@@ -0,0 +1 @@
+run.sh
\\ No newline at end of file
"""


@pytest.mark.parametrize("program", ["git", "patch"])
def test_the_solution_makes_programs_and_links(tmp_path: Path, program: str) -> None:
    work, solution, programs = tmp_path / "work", tmp_path / "solution", tmp_path / "bin"
    for folder in (work, solution, programs):
        folder.mkdir()
    (work / "run.sh").write_text("#!/bin/sh\n")
    for name, data in solution_files(KINDS).items():
        (solution / name).write_bytes(data)
    for needed in ("dirname", "sh", program):
        found = shutil.which(needed)
        if found is None:
            pytest.skip(f"{needed} is not installed")
        (programs / needed).symlink_to(found)
    done = subprocess.run(["/bin/sh", str(solution / "solve.sh")], cwd=work, env={"PATH": str(programs)}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [(work / name).stat().st_mode & 0o111 for name in ("run.sh", "tool.sh")] == [0o111, 0o111]
    assert (work / "now").readlink() == Path("run.sh")


def is_test(path: str) -> bool:
    return "test" in path


def test_folders_of_tests_alone_are_named_whole_and_scattered_tests_one_by_one() -> None:
    paths = ["tests/a.py", "tests/data/x.json", "src/p/q.py", "src/p/test_q.py", "src/p/tests/b.py", "latest", "README"]
    assert globs_of_tests(paths, lambda p: p != "latest" and is_test(p)) == ("src/p/test_q.py", "src/p/tests/**", "tests/**")


def test_a_glob_of_a_name_that_is_not_utf8_can_be_written() -> None:
    (glob,) = globs_of_tests(["src/test_\udce9.py", "src/a.py"], is_test)
    assert glob.encode()
    assert matcher([glob])("src/test_\udce9.py")


def test_language_globs_come_first_and_nothing_twice() -> None:
    assert influencing(["**/conftest.py", "tests/**"], ["tests/a.py"], is_test) == ("**/conftest.py", "tests/**")


def test_distinctive_lines_are_long_new_and_the_fixs_own() -> None:
    added = [
        "x = 1",
        "from collections import defaultdict",
        "# file generated by a tool, not to be tracked",
        "raise ValueError('fuel must not be negative')",
        "return known_already_in_the_tree(1)",
    ]
    patch = "+++ b/engine.py\n" + "".join(f"+    {line}\n" for line in added) + "-    old line that is long enough too\n"
    lines = leak.distinctive_lines(patch, "return known_already_in_the_tree(1) + more\n")
    assert lines == ("raise ValueError('fuel must not be negative')",)


def test_package_names_are_the_topmost_packages() -> None:
    tree = ["src/rockets/__init__.py", "src/rockets/deep/__init__.py", "src/rockets/deep/a.py", "single.py", "setup.py"]
    assert leak.package_names(["src/rockets/deep/a.py", "single.py", "setup.py", "docs/x.rst"], tree) == ("rockets", "single.py")


@pytest.mark.parametrize(
    ("clean", "files", "copies", "words"),
    [
        (True, {}, [], ""),
        (False, {}, [], "git holds more"),
        (True, {"/opt/cache/x": ["line"]}, [], "1 files hold lines of the fix"),
        (True, {}, ["/opt/venv/lib/site-packages/rockets"], "another copy"),
    ],
)
def test_leak_verdict(*, clean: bool, files: dict[str, list[str]], copies: list[str], words: str) -> None:
    seen = {"files_with_fix_lines": files, "installed_copies": copies, "lines_searched": 3, "packages": ["rockets"]}
    result = leak.judge({"clean": clean}, seen)
    assert result.passed == (not words)
    assert words in result.detail
    assert result.evidence["history"] == {"clean": clean}


def test_one_short_line_in_a_library_is_chance_and_two_are_not() -> None:
    found = {
        "/opt/a.py": ["raise ValueError('x y z')"],
        "/opt/b.py": ["one line of the fix here", "another line of the fix"],
        "/opt/c.py": ["z" * 60],
    }
    assert set(leak.significant(found, searched=5)) == {"/opt/b.py", "/opt/c.py"}
    assert set(leak.significant(found, searched=1)) == {"/opt/a.py", "/opt/b.py", "/opt/c.py"}


def test_lines_that_a_tool_writes_into_every_package_tell_nothing() -> None:
    generated = ["a line that is long enough to be distinctive", "another line that is long enough as well"]
    site = "/opt/venv/lib/python3.12/site-packages"
    packages = {f"{site}/{name}/_version.py": generated for name in ("rockets", "shelves", "maps")}
    assert leak.significant(packages, searched=9) == {}
    copies = {f"{site}/{vendor}/_vendor/rockets/__pycache__/core.pyc": generated for vendor in ("one", "two", "three", "four")}
    assert set(leak.significant(copies, searched=9)) == set(copies)
    elsewhere = {f"/opt/{name}/core.py": generated for name in ("build", "cache", "copy")}
    assert set(leak.significant(elsewhere, searched=9)) == set(elsewhere)


def test_files_with_failing_tests_run_behind_the_canaries() -> None:
    (ordered,) = make.failing_last([Command(("run", "a.py", "b.py", "c.py", "{canaries}"), "junit", 60.0, {})], {"b.py"})
    assert ordered.argv == ("run", "a.py", "c.py", "{canaries}", "b.py")


def test_a_flaky_test_leaves_the_plan_with_its_canaries() -> None:
    canaries = [Canary("renamed", "one.py", "test_{token}.py", f"test_{{token}}.py::test_{n}", n) for n in ("p", "q")]
    task = make.with_canaries(make.finish(make_task(), fail_to_pass=["f"], pass_to_pass=["p", "q"], left_out={}), canaries, {"one.py": b""})
    left = make.without(task, {"q": "flaky"})
    assert left.plan.pass_to_pass == ("p",)
    assert [(one.id, one.reason) for one in left.plan.skipped] == [("q", "flaky")]
    assert left.plan.canaries == tuple(canaries[:1])
    assert left.tests == task.tests


def test_a_plan_names_every_file_that_holds_an_expected_test() -> None:
    task = small_task.make()
    sealed = task.plan.test_files[0]
    whole = Command(("run", "--all", "{canaries}"), "junit", 60.0, {})
    narrow = Command(("run", "--some", sealed, "{canaries}"), "junit", 60.0, {})
    plan = replace(task.plan, commands=(whole,), fail_to_pass=(f"{sealed}::test_new",), pass_to_pass=("tests/test_b.py::test_old",))
    task = task.model_copy(update={"plan": plan})
    named = make.naming_every_file(task, (narrow,)).plan.commands[0].argv
    assert named == ("run", "--some", *sorted([sealed, "tests/test_b.py"]), "{canaries}")
    assert make.naming_every_file(task, ()) == task
