"""Answers of the Stack Exchange API 2.3, waited for as it asks. Called by `stackexchange_api`.

The API says in an answer how long the next request of the same method must wait (`backoff`), how much of the day's quota is left, and,
where it refuses, until when. Every answer is kept, so that a run that broke off asks for nothing twice. Must not know what items mean.
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
from pydantic import ValidationError

from envfarm.core.errors import SourceError
from envfarm.core.frozen import Frozen
from task_builders.sources.patience import Patience

PAGE_SIZE = 100
"""The API's largest."""
TIMEOUT_S = 60.0
MAX_LIMIT_WAITS = 12
"""Refusals for haste in a row, of one request."""
THROTTLE_WAIT_S = 60.0
"""Where a refusal does not say for how long."""
KEY_HINT = "STACKEXCHANGE_KEY raises the quota from 300 to 10,000 requests a day, and lets pages above 25 be read; keys are free"
USER_AGENT = "envfarm"
THROTTLED, INTERNAL, UNAVAILABLE = 502, 500, 503
"""Of the API's `error_id`. https://api.stackexchange.com/docs/error-handling"""
Noun = TypeVar("Noun", bound=Frozen)


@dataclass(frozen=True, slots=True)
class ApiAccess:
    """How the API is reached."""

    key: str = ""
    verify: ssl.SSLContext | None = None
    patience: Patience = field(default_factory=Patience)


class Page(Frozen):
    """An answer, as it is kept."""

    items: tuple[dict[str, Any], ...]
    has_more: bool
    backoff_s: float = 0.0
    quota_remaining: int | None = None


class Cursor(Frozen):
    """How far a listing was read."""

    pages: int = 0
    complete: bool = False


class _Trouble(NamedTuple):
    why: str
    wait_s: float
    is_limit: bool


@dataclass(slots=True)
class StackexchangeClient:
    """The API for one site, as a context manager that keeps its connections."""

    directory: Path
    """Where answers and cursors are kept."""
    base_url: str
    site: str
    access: ApiAccess
    _client: httpx.Client = field(init=False)
    _ready_at: dict[str, float] = field(init=False, default_factory=dict)
    """Method → seconds since 1970, before which the API wants no request of it."""
    _quota: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        verify = self.access.verify if self.access.verify is not None else ssl.create_default_context()
        self._client = httpx.Client(verify=verify, timeout=TIMEOUT_S, follow_redirects=False, headers={"User-Agent": USER_AGENT})
        self.directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def listing(self, method: str, path: str, query: Mapping[str, str], *, grows: bool) -> Iterator[tuple[dict[str, Any], ...]]:
        """The pages of a listing. What was read once is not asked for again, save for the last page of one that grows at its end.

        Args:
            method: what backoff counts for: requests to the same method wait for each other.
            path: below the API's address.
            query: its parameters, without paging, site and key.
            grows: whether more may be had at its end later.

        Raises:
            SourceError: the API refuses, or does not recover.
        """
        file = self._file("cursor", path, query)
        cursor = _load(Cursor, file) or Cursor()
        again = cursor.pages if cursor.complete and grows else cursor.pages + 1
        number, more = 1, True
        while more:
            page = self._page(method, path, {**query, "page": str(number)}, reuse=number < again)
            if number >= again:
                _save(Cursor(pages=number, complete=not page.has_more), file)
                self.access.patience.progress(f"{self.site} {method}: page {number}, quota left {self._quota}")
            yield page.items
            number, more = number + 1, page.has_more

    def _page(self, method: str, path: str, query: Mapping[str, str], *, reuse: bool) -> Page:
        file = self._file("page", path, query)
        kept = _load(Page, file) if reuse else None
        if kept is not None:
            return kept
        page = self._ask(method, path, {**query, "pagesize": str(PAGE_SIZE), "site": _name_in_api(self.site)})
        if page.backoff_s:
            self._ready_at[method] = self.access.patience.now() + page.backoff_s
        self._quota = page.quota_remaining
        _save(page, file)
        return page

    def _ask(self, method: str, path: str, query: Mapping[str, str]) -> Page:
        patience = self.access.patience
        failures = waits = 0
        while True:
            if self._quota == 0:
                raise SourceError(
                    f"{self.site}: the quota of the day is used up", hint=f"run again tomorrow: what arrived is kept. {KEY_HINT}"
                )
            if (early := self._ready_at.get(method, 0.0) - patience.now()) > 0:
                patience.wait(early, f"{self.site} {method}: backoff")
            outcome = self._once(path, query)
            if isinstance(outcome, Page):
                return outcome
            failures, waits = (failures, waits + 1) if outcome.is_limit else (failures + 1, waits)
            if failures >= patience.attempts or waits > MAX_LIMIT_WAITS:
                raise SourceError(
                    f"{self.site}{path}: {outcome.why}, {failures + waits} times", hint="run again later: what arrived is kept"
                )
            wait_s = outcome.wait_s if outcome.is_limit else patience.backoff_s(failures)
            if wait_s > patience.longest_wait_s:
                raise SourceError(f"{self.site}{path}: {outcome.why}; it ends in {wait_s:.0f} s", hint=f"run again then. {KEY_HINT}")
            patience.wait(wait_s, f"{self.site} {method}: {outcome.why}")

    def _once(self, path: str, query: Mapping[str, str]) -> Page | _Trouble:
        secret = {"key": self.access.key} if self.access.key else {}
        try:
            answer = self._client.get(f"{self.base_url.rstrip('/')}{path}", params={**query, **secret})
        except httpx.HTTPError as e:
            return _Trouble(f"{type(e).__name__}: {e}".strip(": "), 0, is_limit=False)
        try:
            said = answer.json()
        except ValueError:
            said = None
        if not isinstance(said, dict):
            if answer.is_success or answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
                return _Trouble(f"status {answer.status_code}, and no JSON", 0, is_limit=False)
            raise SourceError(f"{self.site}{path}: status {answer.status_code}", hint="is `base_url` the Stack Exchange API?")
        if "error_id" in said or not answer.is_success:
            return self._trouble(path, answer.status_code, said)
        return self._read(path, said)

    def _read(self, path: str, said: Mapping[str, Any]) -> Page:
        try:
            return Page(
                items=said["items"],
                has_more=said.get("has_more", False),
                backoff_s=said.get("backoff") or 0.0,
                quota_remaining=said.get("quota_remaining"),
            )
        except (KeyError, ValidationError) as e:
            raise SourceError(f"{self.site}{path}: not an answer of the Stack Exchange API", hint="is `base_url` right?") from e

    def _trouble(self, path: str, status: int, said: Mapping[str, Any]) -> _Trouble:
        """What a refusal asks of us. Raises `SourceError` where waiting does not help."""
        error, words = said.get("error_id", status), str(said.get("error_message") or said.get("error_name") or f"status {status}")
        if error == THROTTLED or said.get("error_name") == "throttle_violation":
            after = re.search(r"in (\d+) seconds?", words)
            wait_s = float(after[1]) if after else float(said.get("backoff") or THROTTLE_WAIT_S)
            return _Trouble("throttled", max(1.0, wait_s), is_limit=True)
        if error in {INTERNAL, UNAVAILABLE} or status >= httpx.codes.INTERNAL_SERVER_ERROR:
            return _Trouble(words, 0, is_limit=False)
        raise SourceError(
            f"{self.site}{path}: refused: {words}", hint=KEY_HINT if error in {401, 402, 403, 405, 406} else "check `site` and `tags`"
        )

    def _file(self, kind: str, path: str, query: Mapping[str, str]) -> Path:
        name = json.dumps([self.base_url, self.site, path, sorted(query.items())])
        return self.directory / f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"


def _name_in_api(site: str) -> str:
    """`stackoverflow` for `stackoverflow.com`, `unix` for `unix.stackexchange.com`."""
    return site.removesuffix(".stackexchange.com") if site.endswith(".stackexchange.com") else site.removesuffix(".com")


def _load(noun: type[Noun], file: Path) -> Noun | None:
    """What was saved; None where nothing was, or where writing it broke off."""
    try:
        return noun.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _save(noun: Frozen, file: Path) -> None:
    part = file.with_suffix(".part")
    part.write_text(noun.model_dump_json(), encoding="utf-8")
    part.replace(file)
