"""A Python package index through its JSON simple API (PEP 691, PEP 700), and downloads that survive a broken line.

Called by `releases`. A download goes on where it broke off, is compared with the index's SHA-256 and only then gets its name. Must not
look into what it downloads.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import httpx
from packaging.utils import canonicalize_name
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from envfarm.core.errors import SourceError
from task_builders.sources.patience import Patience

DEFAULT_INDEX = "https://pypi.org/simple"
INDEX_VARIABLES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL")
"""In the order in which they are believed."""
ACCEPT = "application/vnd.pypi.simple.v1+json"
MAX_ARCHIVE_BYTES = 200 * 2**20
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 16


class IndexFile(BaseModel):
    """A file of a project, as the index lists it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    filename: str
    url: str
    hashes: dict[str, str] = {}
    size: int | None = None
    upload_time: datetime | None = Field(default=None, alias="upload-time")
    yanked: bool | str = False
    requires_python: str | None = Field(default=None, alias="requires-python")


class ProjectListing(BaseModel):
    """All files of a project."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    files: tuple[IndexFile, ...]


def index_url(variables: Mapping[str, str]) -> str:
    """The index that pip's and uv's variables name, or PyPI. uv's may have a name in front: `mirror=https://…`."""
    said = next((variables[v] for v in INDEX_VARIABLES if variables.get(v)), DEFAULT_INDEX)
    return re.sub(r"^[\w-]+=(?=https?://)", "", said.strip()).rstrip("/")


def shown(url: str) -> str:
    """An address without the credentials that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@dataclass(slots=True)
class PackageIndex:
    """An index, as a context manager that keeps its connections."""

    url: str
    verify: ssl.SSLContext | None = None
    """Which certificates count; the system's where it is absent."""
    patience: Patience = field(default_factory=Patience)
    max_archive_bytes: int = MAX_ARCHIVE_BYTES
    _client: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        context = self.verify if self.verify is not None else ssl.create_default_context()
        self._client = httpx.Client(verify=context, timeout=TIMEOUT_S, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._client.close()

    def project(self, package: str) -> ProjectListing:
        """What the index has of a package.

        Raises:
            SourceError: there is no such package, the index cannot be reached, or it speaks no JSON.
        """
        address = f"{self.url}/{canonicalize_name(package)}/"
        answer = self._answer(address)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise SourceError(f"`{package}` is not in {shown(self.url)}", hint="check the spelling, or the index in PIP_INDEX_URL")
        if answer.is_error:
            raise SourceError(f"{shown(address)}: status {answer.status_code}", hint="is it a package index?")
        if "json" not in answer.headers.get("content-type", ""):
            raise SourceError(f"{shown(self.url)} does not speak the JSON simple API (PEP 691)", hint="name an index that does")
        try:
            listing = ProjectListing.model_validate_json(answer.content)
        except ValidationError as e:
            raise SourceError(f"{shown(address)}: not what PEP 691 says: {e.errors()[0]['msg']}") from e
        files = tuple(f.model_copy(update={"url": str(answer.url.join(f.url))}) for f in listing.files)
        return listing.model_copy(update={"files": files})

    def download(self, file: IndexFile, directory: Path) -> Path:
        """The file in `directory`; at once if it is there.

        Raises:
            SourceError: it cannot be had, is larger than allowed, has no SHA-256, or is not what the index says.
        """
        wanted = file.hashes.get("sha256", "")
        if not wanted:
            raise SourceError(f"`{file.filename}`: the index gives no SHA-256 for it")
        name = Path(file.filename).name
        if name != file.filename or name.startswith("."):
            raise SourceError(f"`{file.filename}`: not a file's name")
        if file.size is not None and file.size > self.max_archive_bytes:
            raise SourceError(f"`{name}` is larger than {self.max_archive_bytes} bytes")
        whole, part = directory / name, directory / f"{name}.{wanted[:12]}.part"
        if whole.exists() and _sha256(whole) == wanted:
            return whole
        directory.mkdir(parents=True, exist_ok=True)
        problem = ""
        for attempt in range(1, self.patience.attempts + 1):
            problem = self._fetch(file.url, part)
            if not problem:
                if _sha256(part) == wanted:
                    part.replace(whole)
                    return whole
                part.unlink()
                problem = "its SHA-256 is not what the index says"
            if attempt < self.patience.attempts:
                self.patience.wait(self.patience.backoff_s(attempt), f"`{name}`: {problem}")
        raise SourceError(f"`{name}` cannot be downloaded: {problem}", hint="run again: what arrived is kept")

    def _answer(self, address: str) -> httpx.Response:
        problem = ""
        for attempt in range(1, self.patience.attempts + 1):
            try:
                answer = self._client.get(address, headers={"Accept": ACCEPT})
            except httpx.HTTPError as e:
                problem = f"{type(e).__name__}: {e}"
            else:
                if answer.status_code < 500 and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:  # noqa: PLR2004 - server errors
                    return answer
                problem = f"status {answer.status_code}"
            if attempt < self.patience.attempts:
                self.patience.wait(self.patience.backoff_s(attempt), f"{shown(address)}: {problem}")
        raise SourceError(f"{shown(address)} cannot be read: {problem}", hint="check the index in PIP_INDEX_URL and the network")

    def _fetch(self, address: str, part: Path) -> str:
        """Fetch what is missing of a file. Says what went wrong, or nothing."""
        have = part.stat().st_size if part.exists() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with self._client.stream("GET", address, headers=headers) as answer:
                if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return "" if have else "the server has no such range"  # all of it is here; the digest will tell
                if answer.is_error:
                    return f"status {answer.status_code}"
                goes_on = have > 0 and answer.status_code == httpx.codes.PARTIAL_CONTENT
                return self._write(answer, part, have if goes_on else 0)
        except httpx.HTTPError as e:
            return f"{type(e).__name__}: {e}"

    def _write(self, answer: httpx.Response, part: Path, size: int) -> str:
        with part.open("ab" if size else "wb") as out:
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                size += len(chunk)
                if size > self.max_archive_bytes:
                    out.close()
                    part.unlink()
                    raise SourceError(f"`{part.name}` is larger than {self.max_archive_bytes} bytes")
                out.write(chunk)
        return ""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
