"""GitHub's REST API, asked patiently: tokens, rate limits, broken answers, renamed repositories, and answers kept on disk.

githubkit speaks the protocol; what it leaves to its caller is here. An answer is kept with its ETag: asking again costs nothing of the
rate limit when nothing changed, and a run that broke off goes on without asking again. Called by `github`. Must not know what issues are.
"""

import hashlib
import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

import httpx
from githubkit import GitHub, Response
from githubkit.exception import GitHubException, RequestError, RequestFailed
from pydantic import ValidationError

from envfarm.core.errors import SourceError
from envfarm.core.frozen import Frozen
from task_builders.sources.patience import Patience

TIMEOUT_S = 60.0
MAX_LIMIT_WAITS = 12
"""Rate limits waited for in one request: an hour each for the primary one."""
SECONDARY_WAIT_S = 60.0
"""What GitHub asks for where a secondary limit comes without Retry-After."""
USER_AGENT = "envfarm"

Noun = TypeVar("Noun", bound=Frozen)


class Kept(Frozen):
    """An answer on disk."""

    url: str
    etag: str = ""
    next: str | None = None
    body: Any = None


class Cursor(Frozen):
    """How far a listing was read."""

    done: tuple[str, ...] = ()
    """Addresses of the pages that are kept, in order."""
    next: str | None = None
    complete: bool = False


class Trouble(NamedTuple):
    """Why an answer was none, and what to do."""

    why: str
    wait_s: float
    is_limit: bool


@dataclass(slots=True)
class GithubClient:
    """Answers of the API, as a context manager that keeps its connections."""

    directory: Path
    """Where answers and cursors are kept."""
    base_url: str = "https://api.github.com"
    token: str = ""
    verify: ssl.SSLContext | None = None
    """Which certificates count; the system's where it is absent."""
    patience: Patience = field(default_factory=Patience)
    _github: GitHub[Any] = field(init=False)

    def __post_init__(self) -> None:
        self._github = GitHub(
            self.token or None,
            base_url=self.base_url,
            ssl_verify=self.verify if self.verify is not None else ssl.create_default_context(),
            timeout=TIMEOUT_S,
            user_agent=USER_AGENT,
            follow_redirects=True,
            # Waiting and keeping are done here: with a clock that tests hold, on disk, and told to a person.
            auto_retry=False,
            http_cache=False,
        )
        self.directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self._github.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._github.__exit__(kind, error, trace)

    def get(self, path: str, *, reuse: bool = False) -> Any:
        """What is at a path, such as `/repos/owner/name`.

        Args:
            path: below the API's address, or a whole address of the API.
            reuse: take a kept answer without asking.

        Raises:
            SourceError: there is no such thing, it may not be seen, or the API does not recover.
        """
        return self._page(self._address(path), reuse=reuse).body

    def listing(self, name: str, path: str) -> Iterator[list[Any]]:
        """The pages of a listing, each asked for once: a listing that broke off goes on after its last page.

        Args:
            name: of the cursor's file; the same for the same listing.
            path: of the first page.

        Raises:
            SourceError: see `get`.
        """
        first = self._address(path)
        file = self.directory / f"{name}.cursor.json"
        cursor = _load(Cursor, file) or Cursor(next=first)
        if (cursor.done[:1] or (cursor.next,)) != (first,):
            cursor = Cursor(next=first)  # another question than last time
        if cursor.complete and cursor.done:
            # New items come at the end: only the last page can have changed.
            cursor = Cursor(done=cursor.done[:-1], next=cursor.done[-1])
        for url in cursor.done:
            yield self._items(self._page(url, reuse=True))
        while cursor.next:
            page = self._page(cursor.next)
            cursor = Cursor(done=(*cursor.done, cursor.next), next=page.next, complete=page.next is None)
            _save(cursor, file)
            self.patience.progress(f"{name}: page {len(cursor.done)}")
            yield self._items(page)

    def _items(self, page: Kept) -> list[Any]:
        if not isinstance(page.body, list):
            raise SourceError(f"{page.url}: a list was expected", hint="is `base_url` GitHub's API?")
        return page.body

    def _address(self, path: str) -> str:
        url = path if "://" in path else f"{self.base_url.rstrip('/')}/{path.lstrip('/')}"
        if httpx.URL(url).host != httpx.URL(self.base_url).host:
            raise SourceError(f"{url}: not an address of the API", hint="the token is for the API's host alone")
        return url

    def _page(self, url: str, *, reuse: bool = False) -> Kept:
        file = self.directory / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"
        kept = _load(Kept, file)
        if kept is not None and reuse:
            return kept
        answer = self._ask(url, kept.etag if kept else "")
        if answer is None:
            if kept is None:
                raise SourceError(f"{url}: not modified, though nothing of it is kept")
            return kept
        link = answer.raw_response.links.get("next", {}).get("url")
        fresh = Kept(url=url, etag=answer.headers.get("etag", ""), next=self._address(link) if link else None, body=answer.json())
        _save(fresh, file)
        return fresh

    def _ask(self, url: str, etag: str) -> Response[Any] | None:
        """The answer, or None where what is kept is still true."""
        failures = waits = 0
        while True:
            outcome = self._once(url, {"If-None-Match": etag} if etag else {})
            if not isinstance(outcome, Trouble):
                return outcome
            failures, waits = (failures, waits + 1) if outcome.is_limit else (failures + 1, waits)
            if failures >= self.patience.attempts or waits > MAX_LIMIT_WAITS:
                raise SourceError(f"{url}: {outcome.why}, {failures + waits} times", hint="run again later: what arrived is kept")
            wait_s = outcome.wait_s if outcome.is_limit else self.patience.backoff_s(failures)
            if wait_s > self.patience.longest_wait_s:
                raise SourceError(f"{url}: {outcome.why}; it ends in {wait_s:.0f} s", hint="run again then, or set GITHUB_TOKEN")
            self.patience.wait(wait_s, outcome.why)

    def _once(self, url: str, headers: Mapping[str, str]) -> Response[Any] | Trouble | None:
        try:
            answer: Response[Any] = self._github.request("GET", url, headers=dict(headers))
        except RequestFailed as e:
            return self._trouble(url, e.response)
        except RequestError as e:
            return Trouble(f"{type(e.exc).__name__}: {e.exc}".strip(": "), 0, is_limit=False)
        except ValueError:
            # githubkit reads Retry-After as seconds alone; it may be a date.
            return Trouble("secondary rate limit", SECONDARY_WAIT_S, is_limit=True)
        except GitHubException as e:
            raise SourceError(f"{url}: {type(e).__name__}: {e}") from e
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None
        try:
            answer.json()
        except ValueError:
            return Trouble("an answer that is cut off", 0, is_limit=False)
        return answer

    def _trouble(self, url: str, answer: Response[Any]) -> Trouble:
        """What a refusal asks of us.

        Raises:
            SourceError: waiting does not help.
        """
        status, headers, text = answer.status_code, answer.headers, answer.text[:2000]
        if status in {httpx.codes.FORBIDDEN, httpx.codes.TOO_MANY_REQUESTS}:
            if (after := _number(headers.get("retry-after"))) is not None:
                return Trouble("secondary rate limit", max(1.0, after), is_limit=True)
            reset = _number(headers.get("x-ratelimit-reset"))
            if headers.get("x-ratelimit-remaining") == "0" and reset is not None:
                return Trouble("rate limit", max(1.0, reset - self.patience.now() + 1), is_limit=True)
            if status == httpx.codes.TOO_MANY_REQUESTS or "secondary rate limit" in text.casefold():
                return Trouble("secondary rate limit", SECONDARY_WAIT_S, is_limit=True)
            raise SourceError(f"{url}: forbidden: {_message(text)}", hint="GITHUB_TOKEN needs the right to read this repository")
        if status == httpx.codes.UNAUTHORIZED:
            raise SourceError(f"{url}: the token is not accepted", hint="GITHUB_TOKEN is wrong or has expired")
        if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE, httpx.codes.UNAVAILABLE_FOR_LEGAL_REASONS}:
            raise SourceError(f"{url}: there is no such thing", hint="check `repository`; a private one needs GITHUB_TOKEN")
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return Trouble(f"status {status}", 0, is_limit=False)
        raise SourceError(f"{url}: status {status}: {_message(text)}")


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"\d+(?:\.\d+)?", text.strip()) else None


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.split("\n", 1)[0][:200]


def _load(noun: type[Noun], file: Path) -> Noun | None:
    """What was saved; None where nothing was, or where writing it broke off."""
    try:
        return noun.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _save(noun: Frozen, file: Path) -> None:
    part = file.with_suffix(".part")
    part.write_text(noun.model_dump_json())
    part.replace(file)
