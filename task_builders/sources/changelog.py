"""A version's section of a changelog, in Markdown, reStructuredText or plain text. Pure; called by `releases`.

Headings are found by their form and their version is compared as a version, so `v1.2`, `[1.2.0] - 2020-01-01` and `Version 1.2` are one.
Must not clean the text: candidates do.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

_NAME = re.compile(
    r"^(?:changes|changelog|change[-_]log|history|news|releases?(?:[-_]notes)?|whats[-_]?new)(?:\.(?:md|rst|txt|markdown))?$", re.IGNORECASE
)
_RANK = ("changes", "changelog", "change", "history", "news", "release", "whats")
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+)+(?:[._-]?(?:a|b|c|rc|alpha|beta|post|dev)[._-]?\d*)*)(?![\w]|\.\d)", re.IGNORECASE)
_MARKDOWN_HEADING = re.compile(r"^(#{1,6})[ \t]+(\S.*?)[ \t#]*$")
_UNDERLINE = re.compile(r"^([=\-~^\"'`#*+:.<>_])\1{2,}\s*$")
_BOLD_HEADING = re.compile(r"^\*\*([^*]+)\*\*:?\s*$")
_PLAIN_HEADING = re.compile(
    r"^(?:changes (?:in|for) |(?:version |release )?)v?\d+(?:\.\d+)+\S*(?:\s*[\-–—:,(\[].*|\s+\d.*|\s*)$", re.IGNORECASE
)
PLAIN_LEVEL = 20


class Heading(NamedTuple):
    """A heading: where its text stands, where its content starts, how deep it is."""

    line: int
    content: int
    level: int
    text: str


def candidates(paths: Iterable[str]) -> list[str]:
    """Paths that may be a changelog, the likeliest first: at the top of the tree, then under its documentation."""
    found = [p for p in paths if _NAME.match(PurePosixPath(p).name) and len(PurePosixPath(p).parts) <= 3]  # noqa: PLR2004 - docs/source/x.rst

    def rank(path: str) -> tuple[int, int, str]:
        name = PurePosixPath(path).name.casefold()
        return (len(PurePosixPath(path).parts), next(n for n, r in enumerate((*_RANK, "")) if name.startswith(r)), path)

    return sorted(found, key=rank)


def section(text: str, version: str) -> str | None:
    """What the changelog says of a version, without the heading; None where it says nothing."""
    lines = text.replace("\r\n", "\n").split("\n")
    headings = _headings(lines)
    wanted = _parse(version)
    for at, heading in enumerate(headings):
        if wanted is None or _version_of(heading.text) != wanted:
            continue
        end = next((h.line for h in headings[at + 1 :] if h.level <= heading.level or _version_of(h.text) is not None), len(lines))
        body = "\n".join(lines[heading.content : end]).strip("\n")
        if body.strip():
            return body
    return None


def _version_of(heading: str) -> Version | None:
    found = _VERSION.search(heading)
    return _parse(found.group(1)) if found else None


def _parse(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _headings(lines: Sequence[str]) -> list[Heading]:
    found: list[Heading] = []
    underlines: list[str] = []
    fenced = False
    for n, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        if fenced or not line.strip():
            continue
        following = lines[n + 1] if n + 1 < len(lines) else ""
        marked = _MARKDOWN_HEADING.match(line)
        if marked:
            found.append(Heading(n, n + 1, len(marked.group(1)), marked.group(2)))
        elif _UNDERLINE.match(following) and not _UNDERLINE.match(line) and len(following.rstrip()) >= min(len(line.strip()), 4):
            over = n > 0 and bool(_UNDERLINE.match(lines[n - 1])) and lines[n - 1][:1] == following[:1]
            style = following[:1] * (2 if over else 1)
            if style not in underlines:
                underlines.append(style)
            found.append(Heading(n - over, n + 2, underlines.index(style) + 1, line.strip()))
        elif bold := _BOLD_HEADING.match(line):
            found.append(Heading(n, n + 1, PLAIN_LEVEL, bold.group(1)))
        elif _PLAIN_HEADING.match(line):
            found.append(Heading(n, n + 1, PLAIN_LEVEL, line.strip()))
    return found
