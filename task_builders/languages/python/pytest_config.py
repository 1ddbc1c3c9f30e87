"""The project's pytest configuration from any of its files, as plain text values by key. Read from the commit, never by pytest. Pure."""

import configparser
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from task_builders.languages.project import ProjectTree


@dataclass(frozen=True)
class PytestConfig:
    """Options as an ini file would contain them."""

    values: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    """The file that they come from; empty if the project has no configuration."""

    @property
    def addopts(self) -> list[str]:
        """The project's own options, as words."""
        return split(self.values.get("addopts", ""))


def read(tree: ProjectTree) -> PytestConfig:
    """The first configuration in pytest's own order."""
    present = set(tree.paths())
    for path in ("pytest.toml", ".pytest.toml"):
        if path in present and (table := _table(tree, path, "pytest")) is not None:
            return PytestConfig(_plain(table), path)
    for path, section in (
        ("pytest.ini", "pytest"),
        (".pytest.ini", "pytest"),
        ("pyproject.toml", ""),
        ("tox.ini", "pytest"),
        ("setup.cfg", "tool:pytest"),
    ):
        if path not in present:
            continue
        values = _pyproject(tree) if path == "pyproject.toml" else _ini(tree.read(path), section)
        if values is not None:
            return PytestConfig(values, path)
    values = _ini(tree.read("setup.cfg"), "pytest") or {}
    return PytestConfig(values, "setup.cfg" if values else "")


def split(text: str) -> list[str]:
    """The words of an options string; if quotes do not match, split at spaces."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _pyproject(tree: ProjectTree) -> dict[str, str] | None:
    tool = _table(tree, "pyproject.toml", "tool") or {}
    table = tool.get("pytest")
    if not isinstance(table, dict):
        return None
    options = table.get("ini_options", table)
    return _plain(options) if isinstance(options, dict) else None


def _plain(table: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in table.items():
        if isinstance(value, list):
            found[key] = shlex.join(map(str, value)) if key == "addopts" else "\n".join(map(str, value))
        elif isinstance(value, bool):
            found[key] = str(value).lower()
        elif not isinstance(value, dict):
            found[key] = str(value)
    return found


def _table(tree: ProjectTree, path: str, key: str) -> dict[str, Any] | None:
    try:
        value = tomllib.loads(tree.read(path)).get(key)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _ini(text: str, section: str) -> dict[str, str] | None:
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#", ";")
    )
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return {k: (v or "").strip() for k, v in parser.items(section)} if parser.has_section(section) else None
