"""docs/settings.md lists what the code knows: every environment variable, and every policy's options with their defaults."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm import settings
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen
from envfarm.policies import registry
from envfarm.policies.openai_chat import ChatOptions
from envfarm.policies.program import ProgramOptions
from envfarm.testing.factories import make_task

PAGE = (Path(__file__).parents[2] / "docs/settings.md").read_text()
VARIABLES, POLICIES = PAGE.split("\n## ")[1:]
TYPED: dict[str, type[Frozen]] = {"openai_chat": ChatOptions, "program": ProgramOptions}


def rows(section: str) -> list[list[str]]:
    """The cells of its table, without the head."""
    table = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table[1:]]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def defaults(kind: type[Frozen], within: str = "") -> Iterator[tuple[str, str]]:
    """Each option as the page names it, with its default as the page shows it."""
    for name, field in kind.model_fields.items():
        if isinstance(field.default, Frozen):
            yield from defaults(type(field.default), f"{name}.")
        elif field.is_required():
            yield within + name, "required"
        elif field.default in (None, "", {}):
            yield within + name, "none"
        else:
            yield within + name, f"`{field.default if isinstance(field.default, str) else json.dumps(field.default)}`"


def test_every_variable_is_listed_and_says_whether_it_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {*re.findall(r'env(?:\.get\(|\[)"(\w+)"', inspect.getsource(settings.read)), *settings.COLLECTORS}
    listed = {name for row in rows(VARIABLES) for cell in row[:2] for name in quoted(cell) if name.isupper()}
    assert listed == known
    for name in known:
        monkeypatch.delenv(name, raising=False)
    unset = settings.read()
    for variable, default, _ in rows(VARIABLES):
        value = getattr(unset, quoted(variable)[0].removeprefix("ENVFARM_").lower(), None)
        assert (default == "none") == (not value), variable
    assert str(unset.home).replace(str(Path.home()), "~") in quoted(rows(VARIABLES)[0][1])


def test_every_variable_that_builds_pass_on_is_listed() -> None:
    told = VARIABLES.rpartition("|\n")[2]
    assert set(quoted(told)) == {*settings.PASSED_ON, *settings.PASSED_ON_EXACT, *settings.SECRET_MARKS}


def test_every_policy_is_listed_with_its_options_and_their_defaults() -> None:
    listed = rows(POLICIES)
    assert list(dict.fromkeys(quoted(policy)[0] for policy, *_ in listed)) == list(registry.NAMES)
    for name in registry.NAMES:
        own = [(option.strip("`"), default) for policy, option, default, _ in listed if policy == f"`{name}`"]
        if kind := TYPED.get(name):
            assert own == list(defaults(kind))
            continue
        with pytest.raises(UsageError) as refused:
            registry.make(PolicySpec(name=name, options={"nonsense": 1}), make_task(), registry.PolicyInputs())
        options = refused.value.hint.removeprefix("its options are ").split(", ") if refused.value.hint else ["none"]
        assert own == [(option, "") for option in options]
