"""Which distribution an import needs: by rule if it has the module's name, else by the table."""

import pytest

from task_builders.languages.python.distributions import distribution_of, distributions_of
from task_builders.languages.python.known_packages import BY_IMPORT


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("yaml.loader", "pyyaml"),
        ("google.protobuf", "protobuf"),
        ("rocket_fuel", "rocket-fuel"),
        ("Rockets", "rockets"),
        ("dataclasses", "dataclasses"),
        ("distutils", ""),
        ("StringIO", ""),
        ("_private", ""),
        ("mine", ""),
    ],
)
def test_distribution_of_a_module(module: str, distribution: str) -> None:
    assert distribution_of(module, {"mine"}) == distribution


def test_what_tests_import_is_wanted_whether_the_table_knows_it_or_not() -> None:
    assert distributions_of({"os", "yaml", "rocket_fuel", "mine", "asyncore", "dataclasses"}, {"mine"}) == ["pyyaml", "rocket-fuel"]


def test_the_table_says_nothing_that_the_rule_says() -> None:
    assert [m for m, d in BY_IMPORT.items() if d == m.lower().replace("_", "-") or "." in m] == []
