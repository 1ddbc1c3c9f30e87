"""What tests need an agent to know, and the words of a project at its base, which it can read before it starts. Pure."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
OPTION = re.compile(r"(?<![\w-])--?[A-Za-z][\w-]*")
WORD = re.compile(r"[A-Za-z]{2,}")
NeedKind = Literal["name", "attribute", "keyword", "option", "message"]


@dataclass(frozen=True, order=True)
class Need:
    """One thing that a test uses and that the agent must know."""

    kind: NeedKind
    text: str
    of_project: bool = False
    """Whether it is reached through an import of the project: then the project must bind it."""


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


def of_tree(files: Mapping[str, str], bound_by: Callable[[str, str], Collection[str]]) -> Vocabulary:
    """The words of a tree of files, by path. `bound_by` tells which names a file (path, text) binds."""
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
        bound.update(bound_by(path, text))
    return Vocabulary(frozenset(names), frozenset(bound), frozenset(options), "".join(prose))


def in_order(text: str) -> str:
    """The words of a text in lower case, separated by single spaces; the mark at the end keeps phrases from spanning texts."""
    return " " + " ".join(WORD.findall(text.lower())) + " | "


def phrase_known(words: Iterable[str], prose: str) -> bool:
    """Whether a text contains most of a phrase: more than half of its sequences of three words."""
    listed = list(words)
    runs = [f" {' '.join(listed[i : i + 3])} " for i in range(max(1, len(listed) - 2))]
    return sum(run in prose for run in runs) * 2 > len(runs)
