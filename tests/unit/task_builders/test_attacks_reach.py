"""Attacks must put their code where tests import it, or they prove nothing."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from task_builders.validation.attacks.attack import Context, into_modules


def context(work_dir: Path, source_files: Sequence[str]) -> Context:
    return Context(
        work_dir=str(work_dir),
        fail_to_pass=("tests/test_a.py::test_a",),
        pass_to_pass=(),
        test_files=("tests/test_a.py",),
        source_files=tuple(source_files),
        site_packages="/site",
        python=sys.executable,
    )


@pytest.mark.parametrize(
    ("touched", "imported"),
    [(["shelf/old.py"], "shelf.old"), (["shelf/new.py"], "shelf.new"), (["data/table.csv"], "shelf")],
    ids=["a module", "a new module", "data alone"],
)
def test_the_payload_runs_when_tests_import_the_project(touched: list[str], imported: str, tmp_path: Path) -> None:
    for path in ("shelf/__init__.py", "shelf/old.py", "tests/__init__.py"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text("X = 1\n")
    exploit = into_modules("\nprint('here', @IDS@)\n")(context(tmp_path, touched))
    subprocess.run(["sh", "-c", exploit.script], cwd=tmp_path, check=True)
    said = subprocess.run([sys.executable, "-c", f"import {imported}"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert said.stdout == "here ('tests/test_a.py::test_a',)\n"
    assert (tmp_path / "tests/__init__.py").read_text() == "X = 1\n"
