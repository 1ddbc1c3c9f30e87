"""Export to Harbor: its runner gets the requested options."""

import json
import tomllib
from pathlib import Path

import pytest

from envfarm.stores import task_dir
from envfarm.testing import small_task
from task_builders.formats import harbor


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("open_network", [True, False])
def test_options_are_what_harbor_reads(tmp_path: Path, *, shared: bool, open_network: bool) -> None:
    options = harbor.Options(uv_version="0.9.0", shared=shared, open_network=open_network)
    harbor.export(small_task.make(), tmp_path / "t", options, checkout=None)
    head = tomllib.loads((tmp_path / "t/task.toml").read_text())
    assert head["verifier"]["environment_mode"] == ("shared" if shared else "separate")
    assert head["environment"]["network_mode"] == ("public" if open_network else "no-network")
    assert ("--in-place" in (tmp_path / "t/tests/test.sh").read_text()) == shared
    assert task_dir.read(tmp_path / "t") == small_task.make()


def test_tests_get_the_variables_of_the_environment(tmp_path: Path) -> None:
    task = small_task.make()
    recipe = task.recipe.model_copy(update={"env": {"PYTEST_ADDOPTS": "-q", "LANG": "C"}})
    harbor.export(task.model_copy(update={"recipe": recipe}), tmp_path / "t", harbor.Options(uv_version="0.9.0"), checkout=None)
    variables = json.loads((tmp_path / "t/tests/environment.json").read_text())
    expected = {"PYTEST_ADDOPTS": "-q", "LANG": "C", "HOME": "/home/agent", "PYTHON": "/usr/local/bin/python3.11"}
    assert {name: variables[name] for name in expected} == expected
    assert variables["PATH"].startswith("/opt/venv/bin:")


def test_modes_do_not_depend_on_how_the_file_is_written() -> None:
    modes = task_dir.HarborModes(verifier="shared", network="public")
    head = tomllib.loads(task_dir.to_files(small_task.make(), modes)["task.toml"].decode())
    assert (head["verifier"]["environment_mode"], head["environment"]["network_mode"]) == ("shared", "public")
