"""A program that runs inside a box, alone, on Python 3.6 or newer: which of some names the environment's libraries bind.

`library_names` sends it there. Standard input is a JSON object of `names` (pairs of "attribute" or "keyword" and a name), `modules` and
`work_dir`. Standard output is a JSON list of those pairs that one of the modules, the test runner or one of its plugins binds; a word that
merely occurs in a library's text does not count. No code of a library is run, and nothing below the work dir is read.
"""

import ast
import importlib
import importlib.util
import json
import os
import re
import sys
import types
from typing import Any, Dict, Iterator, List, Sequence, Set, Tuple

Pair = Tuple[str, str]
ATTRIBUTE, KEYWORD = "attribute", "keyword"
RUNNER = ("pytest", "_pytest", "py", "pluggy", "unittest")
"""Modules that define the objects of tests' fixtures, whether the tests import them or not."""
STANDARD_OBJECTS = ("pathlib", "logging", "io", "subprocess", "collections")
"""Modules with the classes of objects that the runner and built-in functions return."""
NO_NAMES = frozenset({"__pycache__", "tests", "test", "_vendor", "site-packages"})
C_NAME = re.compile(rb"(?<=\0)[A-Za-z_][A-Za-z0-9_]*(?=\0)")
WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SOURCES, COMPILED = (".py", ".pyi"), (".so", ".pyd")


def plugins() -> List[str]:
    """Modules of the runner's installed plugins."""
    try:
        from importlib import metadata  # since Python 3.8
    except ImportError:
        return []
    points = [point for distribution in metadata.distributions() for point in distribution.entry_points]
    return [point.value.split(":")[0].split(".")[0] for point in points if point.group == "pytest11"]


def files_of(module: str) -> List[str]:
    """The files of a top-level module, found without running it."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return []
    if spec is None:
        return []
    places = list(spec.submodule_search_locations or ())
    found = [spec.origin] if spec.origin and os.path.isfile(spec.origin) and not places else []
    for place in places:
        for folder, folders, names in os.walk(place):
            folders[:] = sorted(name for name in folders if name not in NO_NAMES)
            found += [os.path.join(folder, name) for name in sorted(names)]
    return [path for path in found if path.endswith(SOURCES + COMPILED)]


def bound_in(path: str, wanted: Set[Pair]) -> Set[Pair]:
    """The names that one file binds. Parses it only if a wanted name occurs in it, as in few files."""
    with open(path, "rb") as file:
        data = file.read()
    if not any(name.encode() in data for _, name in wanted):
        return set()
    if path.endswith(COMPILED):
        return both(name.decode() for name in C_NAME.findall(data))
    try:
        tree = ast.parse(data)  # noqa: TID251 - alone in its process
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return bound_by(tree)


def bound_by(tree: ast.AST) -> Set[Pair]:
    """Attributes (definitions, assigned attributes, what classes and modules bind) and keywords (parameters, fields) that code binds."""
    found: Set[Pair] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add((ATTRIBUTE, node.name))
        elif isinstance(node, ast.arg):
            found.add((KEYWORD, node.arg))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add((ATTRIBUTE, node.attr))
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in ("namedtuple", "setattr"):
            found |= both(word for argument in node.args for text in texts(argument) for word in WORD.findall(text))
        if isinstance(node, ast.ClassDef):
            found |= both(name for statement in node.body for name in stored(statement))
        elif isinstance(node, ast.Module):
            found |= {(ATTRIBUTE, name) for statement in node.body for name in stored(statement)}
    return found


def stored(statement: ast.AST) -> Iterator[str]:
    """Names that a statement of a module's or class's body binds outside functions, and those in lists of names."""
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
            yield from texts(statement) if node.id in ("__all__", "__slots__", "_fields") else ()


def texts(node: ast.AST) -> Iterator[str]:
    """The string constants of a piece of code, on any version of `ast`."""
    for inner in ast.walk(node):
        value = getattr(inner, "value", getattr(inner, "s", None))
        if isinstance(value, str):
            yield value


def both(names: Any) -> Set[Pair]:
    """Each name as an attribute and as a keyword."""
    return {(kind, name) for name in names for kind in (ATTRIBUTE, KEYWORD)}


def built_in(module: types.ModuleType) -> Set[Pair]:
    """What a module without a file and its classes bind. `types` covers the interpreter's own objects."""
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    return both(name for value in [module, *classes] for name in dir(value))


def known(names: Sequence[Sequence[str]], modules: Sequence[str], work_dir: str) -> List[Pair]:
    """Those of the names that one of the modules binds."""
    wanted = {(kind, name) for kind, name in names}
    found = built_in(types) & wanted
    below = os.path.join(os.path.realpath(work_dir), "")
    for module in dict.fromkeys([*modules, *RUNNER, *STANDARD_OBJECTS, *plugins()]):
        if module in sys.builtin_module_names:
            found |= built_in(importlib.import_module(module)) & wanted
        for path in files_of(module):
            left = wanted - found
            if left and not os.path.realpath(path).startswith(below):
                found |= bound_in(path, left) & wanted
    return sorted(found)


if __name__ == "__main__":
    asked: Dict[str, Any] = json.load(sys.stdin)
    json.dump(known(asked["names"], asked["modules"], asked["work_dir"]), sys.stdout)
