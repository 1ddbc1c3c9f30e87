"""Who made what a task is made of, in every copy."""

from pathlib import Path

import pytest
import yaml

from envfarm.core.task import Task
from envfarm.stores import task_dir
from envfarm.testing import small_task
from task_builders import exchange
from task_builders.formats import credit, harbor, terminal_bench

DEEDS = ("https://creativecommons.org/licenses/by-sa/3.0/", "https://creativecommons.org/licenses/by-sa/4.0/")


def task() -> Task:
    made = small_task.make()
    return made.model_copy(update={"attribution": made.attribution.model_copy(update={"licence": "CC-BY-SA-3.0 AND CC-BY-SA-4.0"})})


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("CC-BY-SA-3.0 AND CC-BY-SA-4.0", dict(zip(("CC-BY-SA-3.0", "CC-BY-SA-4.0"), DEEDS, strict=True))),
        ("CC-BY-SA-2.5+", {"CC-BY-SA-2.5+": "https://creativecommons.org/licenses/by-sa/2.5/"}),
        ("CC0-1.0", {"CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/"}),
        ("(MIT OR CC-BY-4.0)", {"MIT": "https://spdx.org/licenses/MIT.html", "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/"}),
        ("LicenseRef-own", {}),
    ],
)
def test_each_licence_has_an_address(expression: str, found: dict[str, str]) -> None:
    assert credit.addresses(expression) == found


def test_the_addresses_of_all_licences_travel_with_every_copy(tmp_path: Path) -> None:
    made = task()
    harbor.export(made, tmp_path / "harbor", harbor.Options(uv_version="0.5.0"), checkout=None)
    terminal_bench.export(made, tmp_path / "terminal-bench", uv_version="0.5.0", checkout=None)
    exchange.as_it_is(made, tmp_path / "envfarm", checkout=None)
    for copy in ("harbor", "terminal-bench", "envfarm"):
        text = (tmp_path / copy / "README.md").read_text()
        for said in (*DEEDS, made.attribution.url, made.attribution.changes):
            assert said in text
    tags = yaml.safe_load((tmp_path / "terminal-bench" / "task.yaml").read_text())["tags"]
    assert {f"licence-address:{deed}" for deed in DEEDS} <= set(tags)
    assert task_dir.read(tmp_path / "envfarm").digest == made.digest
