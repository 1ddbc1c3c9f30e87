"""The words of a project at its base: what an agent can read before it starts. Pure."""

import ast
import builtins
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from task_builders.languages.python.syntax import tree_of

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
WORD = re.compile(r"[A-Za-z]{2,}")
BUILT_IN_TYPES = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, BaseException, OSError, type, object, property)
BUILT_IN_NAMES = frozenset(dir(builtins)) | frozenset(name for kind in BUILT_IN_TYPES for name in dir(kind))


@dataclass(frozen=True)
class Vocabulary:
    """Words by the role in which they are known."""

    names: frozenset[str]
    """Every identifier, in code or prose."""
    bound: frozenset[str]
    """Names that source code defines, assigns, imports or accesses as attributes; names of modules and packages."""
    options: frozenset[str]
    prose: str
    """All words in lower case, in order, separated by single spaces: for phrases."""

    def __or__(self, other: "Vocabulary") -> "Vocabulary":
        """The union."""
        names, bound, options = self.names | other.names, self.bound | other.bound, self.options | other.options
        return Vocabulary(names, bound, options, self.prose + other.prose)


def of_text(text: str) -> Vocabulary:
    """The words of a text for people. A name in it counts as known in every role."""
    names = frozenset(IDENTIFIER.findall(text))
    return Vocabulary(names, names, frozenset(OPTION.findall(text)), in_order(text))


def of_tree(files: Mapping[str, str]) -> Vocabulary:
    """The words of a tree of files, by path."""
    names: set[str] = set()
    bound: set[str] = set()
    options: set[str] = set()
    prose: list[str] = []
    for path, text in files.items():
        names.update(IDENTIFIER.findall(text))
        options.update(OPTION.findall(text))
        prose.append(in_order(text))
        parts = PurePosixPath(path)
        bound.update({*parts.parts[:-1], parts.stem})
        if parts.suffix in {".py", ".pyi"}:
            bound.update(bound_names(text))
    return Vocabulary(frozenset(names), frozenset(bound), frozenset(options), "".join(prose))


def in_order(text: str) -> str:
    """The words of a text in lower case, separated by single spaces; the mark at the end keeps phrases from spanning texts."""
    return " " + " ".join(WORD.findall(text.lower())) + " | "


def bound_names(text: str) -> set[str]:
    """Names that a Python file binds or accesses as attributes. All identifiers if this Python cannot parse the file."""
    try:
        tree = tree_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(IDENTIFIER.findall(text))
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name):
                # An attribute that code accesses exists, even if no statement binds it (lazy attributes, compiled modules).
                found.add(name)
            case ast.arg(arg=name):
                found.add(name)
            case ast.alias(name=name, asname=alias):
                found.update([*name.split("."), *([alias] if alias else [])])
            case ast.Constant(value=str(value)) if value.isidentifier():
                # `__all__`, `setattr` and lazy tables bind names given as strings.
                found.add(value)
    return found


def phrase_known(words: Iterable[str], prose: str) -> bool:
    """Whether a text contains most of a phrase: more than half of its sequences of three words."""
    listed = list(words)
    runs = [f" {' '.join(listed[i : i + 3])} " for i in range(max(1, len(listed) - 2))]
    return sum(run in prose for run in runs) * 2 > len(runs)
