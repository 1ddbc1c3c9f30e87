"""A project's own metadata, from pyproject.toml, setup.cfg and setup.py, without running any of it. Pure."""

import configparser
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from packaging.utils import canonicalize_name

from task_builders.languages.project import ProjectTree
from task_builders.languages.python import setup_py
from task_builders.languages.python.requirement_lines import Address, address_of, local_extras, plain_all

LEGACY_BACKEND = "setuptools.build_meta:__legacy__"
PYTHON_BOUND = re.compile(r"(==|!=|<=|>=|<|>)\s*(\d+\.\d+)")
NOT_RELEASED = frozenset({"git", "url", "path", "directory", "file", "editable", "virtual"})
"""Keys of sources and locked packages that are not taken from an index."""
LOCK_FILES = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock")


@dataclass(frozen=True)
class Metadata:
    """What is known of a project before it is installed."""

    name: str = ""
    version: str = ""
    """Empty if it is computed when the project is built."""
    requires: tuple[str, ...] = ()
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dependency groups of any tool, with included groups resolved."""
    requires_python: str = ""
    pythons: tuple[str, ...] = ()
    """Versions in classifiers."""
    build_requires: tuple[str, ...] = ()
    build_backend: str = LEGACY_BACKEND
    has_build_table: bool = False
    entry_points: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    own: Mapping[str, str] = field(default_factory=dict)
    """Dependencies that the project takes from its own tree: canonical name → directory relative to its own, empty if it is not known."""
    elsewhere: frozenset[str] = frozenset()
    """Canonical names of those that it takes from a repository or another address."""
    installable: bool = True
    """Whether there is anything to install."""


def read(tree: ProjectTree) -> Metadata:
    """Everything that the three files say, merged: static data of one fill the gaps of another."""
    present = set(tree.paths())
    parts = [_pyproject(_toml(tree, "pyproject.toml"))]
    if "setup.cfg" in present:
        parts.append(_setup_cfg(tree))
    if "setup.py" in present:
        parts.append(_setup_py(tree))
    if "Pipfile" in present:
        parts.append(_pipfile(_toml(tree, "Pipfile")))
    joined = _join(parts)
    legacy = bool({"setup.py", "setup.cfg"} & present)
    return _replace(joined, installable=legacy or joined.has_build_table or bool(joined.name))


def toml(tree: ProjectTree, path: str = "pyproject.toml") -> dict[str, Any]:
    """A TOML file of the tree; empty if it is missing or cannot be parsed."""
    return _toml(tree, path)


def setup_cfg(tree: ProjectTree, path: str = "setup.cfg") -> configparser.ConfigParser:
    """An ini file of the tree; empty if it is missing or cannot be parsed."""
    parser = configparser.ConfigParser(
        interpolation=None, strict=False, allow_no_value=True, delimiters=("=", ":"), comment_prefixes=("#", ";")
    )
    try:
        parser.read_string(tree.read(path))
    except configparser.Error:
        return configparser.ConfigParser(interpolation=None)
    return parser


def locked_versions(tree: ProjectTree) -> dict[str, str]:
    """`name → version` of the project's lock file, without packages that are locked at several versions."""
    found: dict[str, set[str]] = {}
    for path in LOCK_FILES[:3]:
        packages = _toml(tree, path).get("package", [])
        for package in packages if isinstance(packages, list) else []:
            if _is_released(package) and isinstance(package.get("name"), str) and isinstance(package.get("version"), str):
                found.setdefault(str(canonicalize_name(package["name"])), set()).add(package["version"])
        if found:
            break
    return {name: versions.pop() for name, versions in found.items() if len(versions) == 1}


def _is_released(package: dict[str, Any]) -> bool:
    """Whether a locked package comes from an index."""
    source = _table(package, "source")
    return source["type"] == "legacy" if "type" in source else not NOT_RELEASED & {*source, *package}


def _placed(*given: Any) -> dict[str, Any]:
    """The fields `own` and `elsewhere`, of whatever holds requirements as texts: tables, lists, lines."""
    found = [address for text in _texts_within(given) if (address := address_of(text)) is not None]
    return _places(found)


def _places(addresses: Iterable[Address]) -> dict[str, Any]:
    named = [address for address in addresses if address.name]
    own = {a.name: a.directory for a in named if a.is_local}
    return {"own": own, "elsewhere": frozenset(a.name for a in named) - own.keys()}


def _sources(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The same, of tables like `name = {path = "…"}` or lists of such."""
    found = []
    for name, given in tables.items():
        placed = [table for table in (given if isinstance(given, list) else [given]) if _is_placed(table)]
        if placed:
            is_local = any(not {"git", "url"} & {*table} for table in placed)
            place = next((str(table["path"]) for table in placed if "path" in table), "")
            found.append(Address(str(canonicalize_name(name)), is_local, place))
    return _places(found)


def _is_placed(table: Any) -> bool:
    return isinstance(table, dict) and bool((NOT_RELEASED | {"workspace"}) & {*table})


def _pyproject(data: dict[str, Any]) -> Metadata:
    project, tool, build = _table(data, "project"), _table(data, "tool"), _table(data, "build-system")
    flit, poetry = _table(_table(tool, "flit"), "metadata"), _table(tool, "poetry")
    groups = {k: _group(_table(data, "dependency-groups"), k) for k in _table(data, "dependency-groups")}
    groups |= {k: tuple(plain_all(_texts(v))) for k, v in _table(_table(tool, "pdm"), "dev-dependencies").items()}
    if uv_dev := plain_all(_texts(_table(tool, "uv").get("dev-dependencies"))):
        groups.setdefault("dev", tuple(uv_dev))
    for env, table in _table(_table(tool, "hatch"), "envs").items():
        if isinstance(table, dict) and (found := plain_all([*_texts(table.get("dependencies")), *_texts(table.get("extra-dependencies"))])):
            groups.setdefault(env, tuple(found))
    lists = [_table(tool, "hatch").get("envs"), *(_table(tool, name).get("dev-dependencies") for name in ("pdm", "uv"))]
    own = Metadata(
        name=str(project.get("name") or poetry.get("name") or flit.get("dist-name") or flit.get("module") or ""),
        version=str(project.get("version") or poetry.get("version") or ""),
        requires=tuple(plain_all([*_texts(project.get("dependencies")), *_texts(flit.get("requires"))])),
        extras=_extras(_table(project, "optional-dependencies") or _table(flit, "requires-extra")),
        groups=groups,
        requires_python=str(project.get("requires-python") or flit.get("requires-python") or ""),
        pythons=_classified([*_texts(project.get("classifiers")), *_texts(flit.get("classifiers")), *_texts(poetry.get("classifiers"))]),
        build_requires=tuple(plain_all(_texts(build.get("requires")))),
        build_backend=str(build.get("build-backend") or LEGACY_BACKEND),
        has_build_table=bool(build),
        entry_points=_entry_points(project, poetry),
        **_placed(project.get("dependencies"), project.get("optional-dependencies"), data.get("dependency-groups"), flit, *lists),
    )
    return _join([own, Metadata(**_sources(_table(_table(tool, "uv"), "sources"))), _poetry(poetry)])


def _poetry(poetry: dict[str, Any]) -> Metadata:
    dependencies = dict(_table(poetry, "dependencies"))
    python = dependencies.pop("python", "")
    optional = {n for n, spec in dependencies.items() if isinstance(spec, dict) and spec.get("optional")}
    groups = {"dev": _poetry_requirements(_table(poetry, "dev-dependencies"))} if "dev-dependencies" in poetry else {}
    for name, table in _table(poetry, "group").items():
        groups[name] = _poetry_requirements(_table(table, "dependencies"))
    extras = {
        name: _poetry_requirements({m: dependencies[m] for m in _texts(members) if m in dependencies})
        for name, members in _table(poetry, "extras").items()
    }
    groupless = [_table(poetry, "dev-dependencies"), *(_table(table, "dependencies") for table in _table(poetry, "group").values())]
    return Metadata(
        **_sources({name: spec for table in (*groupless, dependencies) for name, spec in table.items()}),
        requires=_poetry_requirements({n: s for n, s in dependencies.items() if n not in optional}),
        extras=extras,
        groups=groups,
        requires_python=_caret(python) if isinstance(python, str) else "",
    )


def _poetry_requirements(table: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    for name, given in table.items():
        for spec in (one for one in (given if isinstance(given, list) else [given]) if not _is_placed(one)):
            version = spec.get("version", "") if isinstance(spec, dict) else spec
            extras = f"[{','.join(_texts(spec['extras']))}]" if isinstance(spec, dict) and spec.get("extras") else ""
            bounds = _caret(str(spec.get("python") or "")) if isinstance(spec, dict) else ""
            marker = " and ".join(f'python_version {m.group(1)} "{m.group(2)}"' for m in PYTHON_BOUND.finditer(bounds))
            found.append(f"{name}{extras}{_caret(str(version or ''))}" + (f" ; {marker}" if marker else ""))
    return tuple(plain_all(found))


def _caret(version: str) -> str:
    """Poetry's `^1.2`, `~1.2`, `1.*`, `1.2` → PEP 440."""
    parts = [_caret_one(p.strip()) for p in re.split(r"\|\|", version)[-1].split(",")]
    return ",".join(p for p in parts if p)


def _caret_one(part: str) -> str:
    if part in {"", "*"}:
        return ""
    match = re.match(r"([\^~])\s*(\d[\w.]*)$", part)
    if not match:
        return f"=={part}" if part[0].isdigit() else part
    sign, low = match.groups()
    numbers = [int(n) for n in re.findall(r"\d+", low)[:3]]
    index = next((i for i, n in enumerate(numbers) if n), len(numbers) - 1) if sign == "^" else min(1, len(numbers) - 1)
    high = [*numbers[:index], numbers[index] + 1]
    return f">={low},<{'.'.join(map(str, high))}"


def _setup_cfg(tree: ProjectTree) -> Metadata:
    parser = setup_cfg(tree)

    def lines(section: str, key: str) -> list[str]:
        return [x for x in parser.get(section, key, fallback="").splitlines() if x.strip()] if parser.has_section(section) else []

    def one(section: str, key: str) -> str:
        value = parser.get(section, key, fallback="") or ""
        return "" if value.startswith(("attr:", "file:")) else value.strip()

    extras = (
        {k: tuple(plain_all((v or "").splitlines())) for k, v in parser.items("options.extras_require")}
        if parser.has_section("options.extras_require")
        else {}
    )
    tests = plain_all(lines("options", "tests_require"))
    return Metadata(
        name=one("metadata", "name"),
        version=one("metadata", "version"),
        requires=tuple(plain_all(x for line in lines("options", "install_requires") for x in line.split(";;"))),
        extras=extras,
        groups={"tests_require": tuple(tests)} if tests else {},
        requires_python=one("options", "python_requires") or one("metadata", "python_requires"),
        pythons=_classified([*lines("metadata", "classifiers"), *lines("metadata", "classifier")]),
        build_requires=tuple(plain_all(lines("options", "setup_requires"))),
        entry_points={
            k: _entry_lines((v or "").splitlines())
            for k, v in (parser.items("options.entry_points") if parser.has_section("options.entry_points") else [])
        },
        **_placed([dict(parser.items(s)) for s in ("options", "options.extras_require") if parser.has_section(s)]),
    )


def _setup_py(tree: ProjectTree) -> Metadata:
    found = setup_py.read(tree)
    tests = plain_all(_texts(found.get("tests_require")))
    points = found.get("entry_points")
    return Metadata(
        name=str(found.get("name") or ""),
        version=str(found.get("version") or ""),
        requires=tuple(plain_all(_texts(found.get("install_requires")))),
        extras=_extras(found.get("extras_require")),
        groups={"tests_require": tuple(tests)} if tests else {},
        requires_python=str(found.get("python_requires") or ""),
        pythons=_classified(_texts(found.get("classifiers"))),
        build_requires=tuple(plain_all(_texts(found.get("setup_requires")))),
        entry_points={k: _entry_lines(_texts(v)) for k, v in points.items()} if isinstance(points, dict) else {},
        **_placed([found.get(key) for key in ("install_requires", "extras_require", "tests_require")]),
    )


def _pipfile(data: dict[str, Any]) -> Metadata:
    packages, more = _table(data, "packages"), _table(data, "dev-packages")
    python = str(_table(data, "requires").get("python_version") or "")
    return Metadata(
        **_sources({**more, **packages}),
        requires=_poetry_requirements(packages),
        groups={"dev": _poetry_requirements(more)},
        pythons=(python,) if python else (),
    )


def _join(parts: Iterable[Metadata]) -> Metadata:
    joined = Metadata()
    for part in parts:
        joined = Metadata(
            name=joined.name or part.name,
            version=joined.version or part.version,
            requires=tuple(dict.fromkeys([*joined.requires, *part.requires])),
            extras={**part.extras, **joined.extras},
            groups={**part.groups, **joined.groups},
            requires_python=joined.requires_python or part.requires_python,
            pythons=joined.pythons or part.pythons,
            build_requires=tuple(dict.fromkeys([*joined.build_requires, *part.build_requires])),
            build_backend=joined.build_backend if joined.has_build_table else part.build_backend,
            has_build_table=joined.has_build_table or part.has_build_table,
            entry_points={**part.entry_points, **joined.entry_points},
            own={**part.own, **joined.own},
            elsewhere=joined.elsewhere | part.elsewhere,
        )
    return joined


def _replace(metadata: Metadata, *, installable: bool) -> Metadata:
    return Metadata(**{**metadata.__dict__, "installable": installable})


def _group(groups: dict[str, Any], name: str, seen: tuple[str, ...] = ()) -> tuple[str, ...]:
    wanted = canonicalize_name(name)
    entry: Any = next((v for k, v in groups.items() if canonicalize_name(k) == wanted), [])
    found: list[str] = []
    for item in entry if isinstance(entry, list) and wanted not in seen else []:
        if isinstance(item, str):
            found.extend(plain_all([item]))
        elif isinstance(item, dict) and isinstance(item.get("include-group"), str):
            found.extend(_group(groups, item["include-group"], (*seen, wanted)))
    return tuple(dict.fromkeys(found))


def _extras(given: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(given, dict):
        return {}
    named: dict[str, tuple[str, ...]] = {}
    for key, value in given.items():
        name = str(key).split(":")[0] or "_conditional"
        named[name] = (*named.get(name, ()), *plain_all(t for t in _texts(value) if local_extras(t) is None))
    return named


def _entry_points(project: dict[str, Any], poetry: dict[str, Any]) -> dict[str, dict[str, str]]:
    found = {
        group: {k: str(v) for k, v in table.items()} for group, table in _table(project, "entry-points").items() if isinstance(table, dict)
    }
    found |= {group: {k: str(v) for k, v in table.items()} for group, table in _table(poetry, "plugins").items() if isinstance(table, dict)}
    scripts = _table(project, "scripts") or {k: v for k, v in _table(poetry, "scripts").items() if isinstance(v, str)}
    if scripts:
        found["console_scripts"] = {k: str(v) for k, v in scripts.items()}
    return found


def _entry_lines(lines: Iterable[str]) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {k.strip(): v.strip() for k, v in pairs}


def _classified(classifiers: Iterable[str]) -> tuple[str, ...]:
    found = (re.match(r"\s*Programming Language :: Python :: (\d+\.\d+)", c) for c in classifiers)
    return tuple(m.group(1) for m in found if m)


def _toml(tree: ProjectTree, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(tree.read(path))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}


def _table(data: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = data.get(key)
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [x for x in value.splitlines() if x.strip()]
    return [x for x in value if isinstance(x, str)] if isinstance(value, list | tuple | set) else []


def _texts_within(value: Any) -> list[str]:
    if not isinstance(value, dict | list | tuple | set):
        return _texts(value)
    return [text for each in (value.values() if isinstance(value, dict) else value) for text in _texts_within(each)]
