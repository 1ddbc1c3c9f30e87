"""The main test environment of tox or nox: what it installs, which commands it runs, which variables it sets. Never run. Pure."""

import ast
import configparser
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from task_builders.languages.project import ProjectTree
from task_builders.languages.python import metadata, shell_lines, syntax
from task_builders.languages.python.requirement_lines import Requested, local_extras, plain, read_file
from task_builders.languages.python.versions import minor_of

OTHER_PURPOSES = frozenset({
    "lint", "flake8", "docs", "doc", "style", "typing", "mypy", "pyright", "black", "isort", "coverage", "release", "publish", "build",
    "manifest", "readme",
    "changelog", "linkcheck", "pre", "precommit", "format", "check", "clean", "report", "bench", "benchmark", "codspeed", "pylint",
    "bandit", "twine",
})  # fmt: skip


MAX_LINE = 2000


@dataclass
class TestEnvironment:
    """The runner's main test environment."""

    requested: Requested = field(default_factory=Requested)
    tests: list[list[str]] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    pythons: list[str] = field(default_factory=list)
    found: bool = False


def read(tree: ProjectTree) -> TestEnvironment:
    """The first of tox.ini, `[tox]` of setup.cfg, `tool.tox` of pyproject.toml, tox.toml and noxfile.py that has a test environment."""
    data = metadata.toml(tree)
    tool = data.get("tool", {})
    table = tool.get("tox", {}) if isinstance(tool, dict) else {}
    for ini in (
        _ini(tree.read("tox.ini")),
        _ini(table.get("legacy_tox_ini", "")) if isinstance(table, dict) else None,
        _ini(tree.read("setup.cfg")),
    ):
        if ini is not None and (found := _from_ini(ini, tree)).found:
            return found
    native = table if isinstance(table, dict) and ("env_run_base" in table or "env" in table) else metadata.toml(tree, "tox.toml")
    if native and (found := _from_toml(native, tree)).found:
        return found
    return _from_nox(tree)


def expand(names: str) -> list[str]:
    """`py{36,37}-{a,b}`, `3.1{0-3}-tests` → the environments' names."""
    found: list[str] = []
    for part in re.split(r"[\n,](?![^{]*\})", names):
        pieces = re.split(r"\{([^}]*)\}", re.sub(r"#.*", "", part).strip())
        options = [_alternatives(p) if i % 2 else [p] for i, p in enumerate(pieces)]
        found.extend("".join(combination).strip() for combination in itertools.islice(itertools.product(*options), 300))
    return [f for f in found if f]


def _alternatives(inside: str) -> list[str]:
    found = []
    for option in inside.split(","):
        span = re.fullmatch(r"\s*(\d+)-(\d+)\s*", option)
        found.extend([str(n) for n in range(int(span.group(1)), min(int(span.group(2)), 99) + 1)] if span else [option.strip()])
    return found


def _from_ini(ini: configparser.ConfigParser, tree: ProjectTree) -> TestEnvironment:
    names = expand(_get(ini, "tox", "envlist") or _get(ini, "tox", "env_list"))
    sections = [s.removeprefix("testenv:") for s in ini.sections() if s.startswith("testenv:")]
    if not ini.has_section("testenv") and not sections:
        return TestEnvironment()
    chosen = _main([*names, *(n for s in sections for n in expand(s))])
    factors = frozenset(chosen.split("-")) | {chosen}
    own = next((s for s in ini.sections() if s.startswith("testenv:") and chosen in expand(s.removeprefix("testenv:"))), "")

    def lines(*keys: str) -> list[str]:
        for section in (own, "testenv"):
            for key in keys:
                if section and ini.has_option(section, key):
                    return _conditioned(_substituted(ini, _get(ini, section, key)), factors)
        return []

    commands = [c.lstrip("- ") for c in lines("commands")]
    result = TestEnvironment(pythons=_pythons(names), found=True)
    result.requested.add(_deps(lines("deps"), tree))
    result.requested.extras.extend(e for line in lines("extras") for e in re.split(r"[,\s]+", line) if e)
    result.requested.groups.extend(g for line in lines("dependency_groups") for g in re.split(r"[,\s]+", line) if g)
    script = shell_lines.read([_posargs(c) for c in commands], tree)
    result.requested.add(script.requested)
    result.tests = script.tests
    for line in lines("setenv", "set_env"):
        key, _, value = line.partition("=")
        if value and "{" not in value and re.fullmatch(r"[A-Za-z_]\w*", key.strip()):
            result.env[key.strip()] = value.strip()
    return result


def _from_toml(table: dict[str, Any], tree: ProjectTree) -> TestEnvironment:
    names = [n for n in table.get("env_list", []) if isinstance(n, str)]
    envs = table.get("env", {}) if isinstance(table.get("env"), dict) else {}
    chosen = _main([*names, *(str(k) for k in envs)])
    merged: dict[str, Any] = {}
    for layer in (table.get("env_run_base"), envs.get(chosen)):
        merged.update(layer if isinstance(layer, dict) else {})
    result = TestEnvironment(pythons=_pythons(names), found=bool(merged))
    result.requested.add(_deps([d for d in merged.get("deps", []) if isinstance(d, str)], tree))
    result.requested.extras.extend(e for e in merged.get("extras", []) if isinstance(e, str))
    result.requested.groups.extend(g for g in merged.get("dependency_groups", []) if isinstance(g, str))
    for command in merged.get("commands", []):
        words = [w for w in command if isinstance(w, str)] if isinstance(command, list) else []
        if (arguments := shell_lines.pytest_arguments(words)) is not None:
            result.tests.append(arguments)
    env = merged.get("set_env", {})
    result.env = {str(k): v for k, v in env.items() if isinstance(v, str) and "{" not in v} if isinstance(env, dict) else {}
    return result


def _from_nox(tree: ProjectTree) -> TestEnvironment:
    module = syntax.parse(tree.read("noxfile.py"))
    if module is None:
        return TestEnvironment()
    functions = {f.name: f for f in module.body if isinstance(f, ast.FunctionDef) and _is_session(f)}
    chosen = _main(list(functions))
    if chosen not in functions:
        return TestEnvironment()
    result = TestEnvironment(found=True)
    result.pythons = [
        m for n in ast.walk(module) if isinstance(n, ast.Constant) and isinstance(n.value, str) for m in re.findall(r"^3\.\d+$", n.value)
    ]
    for call in (n for n in ast.walk(functions[chosen]) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)):
        words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name == "install":
            result.requested.add(shell_lines.read([" ".join(f"'{w}'" for w in ["pip", "install", *words])], tree).requested)
        elif name.startswith("run") and words:
            script = shell_lines.read([" ".join(f"'{w}'" for w in words)], tree)
            result.requested.add(script.requested)
            result.tests.extend(script.tests)
    return result


def _is_session(function: ast.FunctionDef) -> bool:
    return any("session" in ast.dump(d) for d in function.decorator_list)


def _main(names: Iterable[str]) -> str:
    """The environment that most likely runs the suite: newest Python, fewest other factors, no other purpose."""

    def rank(name: str) -> tuple[bool, bool, int, int]:
        factors = re.split(r"[-_]", name.lower())
        minor = next((m for f in name.split("-") if (m := minor_of(f))), None)
        testing = any(f in {"test", "tests", "pytest", "unit"} for f in factors)
        return (
            bool(OTHER_PURPOSES & set(factors)) or "pypy" in name,
            not (minor or testing or name == "py"),
            len(factors),
            -(minor[1] if minor else 0),
        )

    return min(dict.fromkeys(names), key=rank, default="py")


def _deps(lines: Iterable[str], tree: ProjectTree) -> Requested:
    requested = Requested()
    for line in lines:
        text = re.sub(r"\{toxinidir\}/?|\{tox_root\}/?", "", line).strip()
        option = re.match(r"-(r|c)\s*(.+)$", text)
        if option:
            inner = read_file(tree, option.group(2).strip().removeprefix("./"))
            requested.add(inner if option.group(1) == "r" else Requested(constraints=inner.requirements))
        elif (extras := local_extras(text.removeprefix("-e").strip() or ".")) is not None:
            requested.extras.extend(extras)
        elif found := plain(text):
            requested.requirements.append(found)
    return requested


def _conditioned(text: str, factors: frozenset[str]) -> list[str]:
    """The lines whose factor condition (`py36,py37: x`, `!cov: y`) holds, without the condition."""
    found = []
    for raw in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.sub(r"(?:^|\s)#.*", "", raw[:MAX_LINE]).strip()
        match = re.match(r"([!\w.{},\s-]+?):\s+(.*)$|([!\w.{},-]+?):(?!//)(.*)$", line)
        condition = (match.group(1) or match.group(3)) if match else ""
        if match and not re.search(r"\s\S+\s", condition):
            if not any(_holds(alternative, factors) for alternative in expand(condition)):
                continue
            line = (match.group(2) if match.group(2) is not None else match.group(4)).strip()
        if line:
            found.append(line)
    return found


def _holds(condition: str, factors: frozenset[str]) -> bool:
    return all((f[1:] not in factors) if f.startswith("!") else f in factors for f in condition.split("-"))


def _substituted(ini: configparser.ConfigParser, text: str, depth: int = 0) -> str:
    """`{[section]key}` replaced by that key's value."""

    def value(match: re.Match[str]) -> str:
        found = _get(ini, match.group(1), match.group(2))
        return _substituted(ini, found, depth + 1) if depth < 4 else ""  # noqa: PLR2004 - sections may name each other in a ring

    return re.sub(r"\{\[([^\]]+)\]([\w-]+)\}", value, text)


def _posargs(command: str) -> str:
    """`{posargs:default}` → the default; `{env:NAME:default}` likewise."""
    text = re.sub(r"\{env:\w+:([^{}]*)\}", r"\1", command)
    text = re.sub(r"\{posargs:?((?:[^{}]|\{[^{}]*\})*)\}", r"\1", text)
    return re.sub(r"\{envpython\}", "python", re.sub(r"\{\[\w+\]\w+\}|\[\]", "", text))


def _pythons(names: Iterable[str]) -> list[str]:
    minors = (minor_of(f) for n in names for f in n.split("-"))
    return list(dict.fromkeys(f"{m[0]}.{m[1]}" for m in minors if m))


def _get(ini: configparser.ConfigParser, section: str, key: str) -> str:
    return (ini.get(section, key, fallback="") or "") if ini.has_section(section) else ""


def _ini(text: Any) -> configparser.ConfigParser | None:
    if not isinstance(text, str) or "testenv" not in text:
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True, delimiters=("=",), comment_prefixes=("#",))
    try:
        parser.read_string(text)
    except configparser.Error:
        return None
    return parser
