"""Scaffolds as data: what ships can be read, what an operator adds comes first, and what a recipe is made of."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from envfarm.core.digest import of_bytes
from envfarm.core.episode import PolicySpec
from envfarm.core.errors import UsageError
from envfarm.core.image import ImageRef
from envfarm.core.scaffold import Scaffold
from envfarm.policies.registry import scaffold_of
from envfarm.scaffolds.recipes import recipe_of
from envfarm.scaffolds.registry import Scaffolds


def test_what_ships_can_be_read_and_says_what_it_is(tmp_path: Path) -> None:
    known = Scaffolds(tmp_path / "none")
    assert {"mini-swe-agent", "qwen-code"} <= set(known.names())
    for name in known.names():
        scaffold = known.find(name)
        assert scaffold.name == name
        assert scaffold.about
        assert scaffold.check
        assert "\n" not in scaffold.command
        for path, text in scaffold.files.items():
            assert not path.endswith(".json") or json.loads(text)


def test_the_operators_file_comes_first_and_needs_no_restart(tmp_path: Path) -> None:
    known = Scaffolds(tmp_path)
    with pytest.raises(UsageError, match="no scaffold 'mine'"):
        known.find("mine")
    (tmp_path / "mine.toml").write_text('command = "true"')
    (tmp_path / "qwen-code.toml").write_text('command = "ours"')
    assert known.find("mine").command == "true"
    assert known.find("qwen-code").command == "ours"
    assert "mine" in known.names()


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "", ".", "MINE", "a/b", "mine\n"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "mine.toml").write_text('command = "true"')
    with pytest.raises(UsageError, match="there is no scaffold"):
        Scaffolds(folder).find(name)


@pytest.mark.parametrize(("text", "place"), [("command = 3", "`command`"), ('comand = "x"', "`command`"), ("=", "is invalid")])
def test_a_wrong_file_is_told_with_its_place(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=r"mine\.toml") as told:
        Scaffolds(tmp_path).find("mine")
    assert place in str(told.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"python": "3", "node": "24.1.0"},
        {"packages": ("x",)},
        {"python": "3; rm -rf /"},
        {"files": {"../etc/passwd": ""}},
        {"files": {"/etc/passwd": ""}},
        {"command": ""},
    ],
)
def test_what_is_no_scaffold_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Scaffold.model_validate({"name": "x", "command": "true", **fields})


def test_a_layer_is_of_what_is_installed_and_not_of_how_it_is_run() -> None:
    made = Scaffold(name="x", python="3.12", packages=("acme==1",), command="acme", env={"A": "1"})
    run_otherwise = made.model_copy(update={"command": "acme --fast", "env": {}, "about": "x", "name": "y"})
    newer = made.model_copy(update={"packages": ("acme==2",)})
    assert recipe_of(made).layer_digest == recipe_of(run_otherwise).layer_digest != recipe_of(newer).layer_digest


def test_what_is_text_alone_needs_no_registry() -> None:
    recipe = recipe_of(Scaffold(name="x", files={"bin/run": "echo hi"}, command="sh /opt/agent/bin/run"))
    assert recipe.dependencies == ()
    assert recipe.files["/opt/agent/bin/run"] == "echo hi"


def test_packages_are_no_words_of_a_shell() -> None:
    recipe = recipe_of(Scaffold(name="x", node="24.1.0", packages=("a@1; touch /tmp/x",), command="x"))
    assert any("'a@1; touch /tmp/x'" in step.run for step in recipe.dependencies)


def test_an_attached_layer_is_another_image() -> None:
    image = ImageRef(kind="host", digest=of_bytes(b"image"))
    one, other = image.attach(of_bytes(b"one")), image.attach(of_bytes(b"other"))
    assert len({image.digest, one.digest, other.digest}) == 3
    assert one.attached == (of_bytes(b"one"),)


def test_which_scaffold_a_policy_wants() -> None:
    assert scaffold_of(PolicySpec(name="gold")) == ""
    assert scaffold_of(PolicySpec(name="program", options={"command": "x"})) == ""
    assert scaffold_of(PolicySpec(name="program", options={"scaffold": "x"})) == "x"
    with pytest.raises(UsageError, match="scafold"):
        scaffold_of(PolicySpec(name="program", options={"scafold": "x"}))
