"""A file of issues: JSON lines in the shape of GitHub's REST API, joined to a history by number, pull request or fix.

Called by `git_history`. Beside what the REST API has, a line may say more: `repo` ("owner/name"), `fix_commit`, `pull_request` as the
number of the pull request that fixed the issue, and `comments` as a list of remarks. In REST's shape `pull_request` is an object, which
marks the line itself as a pull request. Must not guess: a line without a number is an error, named by its line.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envfarm.core.errors import SourceError
from envfarm.core.frozen import Frozen
from envfarm.core.source import Comment

_OWNER_AND_NAME = re.compile(r"^https?://[^/]+/(?:(?:api/v\d+/)?repos/)?([\w.-]+/[\w.-]+?)(?:/|$)")


class Issue(Frozen):
    """An issue, or a pull request, as the thread shows it."""

    repository: str
    number: int
    title: str
    body: str
    url: str
    author: str = ""
    comments: tuple[Comment, ...] = ()
    is_pull_request: bool = False
    fixed_by_pull_request: int | None = None
    fix_commit: str | None = None


class Issues:
    """Issues by what a commit may know of them."""

    def __init__(self, issues: tuple[Issue, ...] = ()) -> None:
        self._by_number = {(i.repository.casefold(), i.number): i for i in issues}
        self._by_fix = {i.fix_commit: i for i in issues if i.fix_commit}
        self._by_pull_request: dict[tuple[str, int], list[Issue]] = {}
        for issue in issues:
            if issue.fixed_by_pull_request is not None:
                self._by_pull_request.setdefault((issue.repository.casefold(), issue.fixed_by_pull_request), []).append(issue)

    def numbered(self, repository: str, number: int) -> Issue | None:
        """The thread with this number."""
        return self._by_number.get((repository.casefold(), number))

    def fixed_by(self, commit: str) -> Issue | None:
        """The issue that names the commit as its fix."""
        return self._by_fix.get(commit)

    def fixed_by_pull_request(self, repository: str, number: int) -> tuple[Issue, ...]:
        """The issues that name the pull request as their fix."""
        return tuple(self._by_pull_request.get((repository.casefold(), number), ()))


def read(path: Path, default_repository: str = "") -> Issues:
    """The issues of a file.

    Args:
        path: JSON lines, UTF-8.
        default_repository: `owner/name` of lines that do not say theirs.

    Raises:
        SourceError: the file cannot be read, or a line is no issue; names the line.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return Issues(tuple(_issues(lines, path, default_repository)))
    except (OSError, UnicodeDecodeError) as e:
        raise SourceError(f"`{path}`: {e}", hint="`issues` names a file of JSON lines, relative to the sources file") from e


def from_rest(row: Mapping[str, Any], default_repository: str = "") -> Issue:
    """An issue or pull request from the REST API's JSON.

    Raises:
        KeyError, TypeError, ValueError: it is none.
    """
    link = row.get("pull_request")
    remarks = row.get("comments")
    return Issue(
        repository=str(row.get("repo") or _repository_of(row) or default_repository),
        number=row["number"],
        title=row.get("title") or "",
        body=row.get("body") or "",
        url=row.get("html_url") or "",
        author=str((row.get("user") or {}).get("login") or ""),
        comments=tuple(_remark(r) for r in remarks) if isinstance(remarks, list) else (),
        is_pull_request=isinstance(link, Mapping) or "merged_at" in row,
        fixed_by_pull_request=link if isinstance(link, int) and not isinstance(link, bool) else None,
        fix_commit=row.get("fix_commit") or None,
    )


def _issues(lines: Iterator[str], path: Path, default_repository: str) -> Iterator[Issue]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield from_rest(json.loads(line), default_repository)
        except (KeyError, TypeError, AttributeError, ValueError) as e:
            what = f"`{e.args[0]}` is missing" if isinstance(e, KeyError) else _first_line(e)
            raise SourceError(f"{path}:{number}: not an issue in the shape of GitHub's REST API: {what}") from e


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"`{'.'.join(str(p) for p in first['loc'])}`: {first['msg']}"
    return str(error).split("\n", 1)[0]


def _repository_of(row: Mapping[str, Any]) -> str:
    for key in ("repository_url", "html_url", "url"):
        found = _OWNER_AND_NAME.search(str(row.get(key) or ""))
        if found:
            return found.group(1)
    return ""


def _remark(row: Mapping[str, Any]) -> Comment:
    said = row.get("created_at")
    return Comment(
        author=str((row.get("user") or {}).get("login") or row.get("author") or ""),
        body=row.get("body") or "",
        created_at=datetime.fromisoformat(said) if said else None,
    )
