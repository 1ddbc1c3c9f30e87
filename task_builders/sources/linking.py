"""Which issues and pull requests a text speaks of. Pure; called by the sources that join changes with issues.

Follows GitHub's rules for closing keywords (nine of them, case-insensitive, before `#N`, `owner/name#N`, `GH-N` or a full address) and
is a little more generous: "Fixes issue #1", "Fixes #1, #2" and "Fixes: #1" count as well, because people write them.
"""

import re
from typing import NamedTuple

KEYWORD = r"(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)"
REFERENCE = (
    r"(?:https?://[\w.:-]+/[\w.-]+/[\w.-]+/(?:issues|pull|-/issues|-/merge_requests)/\d+(?:\#[\w-]+)?"
    r"|[A-Za-z0-9][\w.-]*/[\w.-]+\#\d+|\#\d+|gh-\d+)"
)
_CLOSING = re.compile(
    rf"\b{KEYWORD}\b[:\s(\[]{{0,3}}\s*(?:the\s+)?(?:(?:issues?|bugs?|tickets?)\s*:?\s*)?"
    rf"(?P<references>{REFERENCE}(?:\s*(?:,|and|&|\+)\s*(?:{KEYWORD}\s+)?{REFERENCE})*)",
    re.IGNORECASE,
)
_REFERENCE = re.compile(REFERENCE, re.IGNORECASE)
_NUMBER = re.compile(r"(?:/|#|-)(\d+)(?:#[\w-]+)?$", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^/]+/([\w.-]+/[\w.-]+?)/", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_MERGE = re.compile(r"^Merge pull request (?:\#|[\w.-]+/[\w.-]+\#)(\d+)\b|^Merge (?:branch .+ )?\(?#(\d+)\)?", re.IGNORECASE)
_SQUASH = re.compile(r"\(#(\d+)\)\s*$")


class Reference(NamedTuple):
    """An issue or pull request that a text names. `repository` is empty where the text leaves it open."""

    repository: str
    number: int


def closing_references(text: str) -> tuple[Reference, ...]:
    """What the text says that it closes, in order, each once. HTML comments (unfilled templates) do not speak."""
    found = dict.fromkeys(
        _reference(m.group())
        for closing in _CLOSING.finditer(_COMMENT.sub("", text))
        for m in _REFERENCE.finditer(closing.group("references"))
    )
    return tuple(found)


def own_numbers(references: tuple[Reference, ...], name: str) -> tuple[int, ...]:
    """The numbers of those that belong to the project `name` (`owner/name`)."""
    return tuple(r.number for r in references if not r.repository or r.repository.casefold() == name.casefold())


def merged_pull_request(message: str) -> int | None:
    """The number of the pull request that a merge commit says it brought in."""
    found = _MERGE.match(message)
    return int(found.group(1) or found.group(2)) if found else None


def squashed_pull_request(message: str) -> int | None:
    """The number at the end of a subject, as squash merges write it: `Fix it (#12)`. May be an issue's number as well."""
    subject = message.split("\n", 1)[0]
    found = _SQUASH.search(subject.strip())
    return int(found.group(1)) if found else None


def _reference(text: str) -> Reference:
    number = _NUMBER.search(text)
    if number is None:
        raise AssertionError(f"a reference without a number: {text}")  # the two patterns above are of one mind
    address = _ADDRESS.match(text)
    if address:
        return Reference(address.group(1), int(number.group(1)))
    repository = text.split("#", 1)[0] if "/" in text else ""
    return Reference(repository, int(number.group(1)))
