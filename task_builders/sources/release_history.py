"""Source distributions as a git repository: one commit for each release. Called by `releases`.

Archives are a stranger's. They are read member by member and never unpacked to disk: each member passes tarfile's data filter, sizes
and counts are bounded, and contents go straight into git's object store, so nothing in an archive is ever run, linked or overwritten.
The same archives give the same commits.
"""

import posixpath
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from envfarm.core.errors import SourceError
from task_builders.sources.git import GitRepository

AUTHOR = "envfarm <releases@envfarm.invalid>"
"""Neutral: who uploaded a release is not who wrote it."""
BRANCH = "refs/heads/main"
MAX_MEMBERS = 50_000
MAX_UNPACKED_BYTES = 1 << 28
ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
GENERATED_SUFFIX = ".egg-info"
"""A folder that packing a release leaves in it, and installing it writes anew: no part of the sources."""


@dataclass(frozen=True, slots=True)
class Release:
    """A release that is at hand."""

    version: str
    archive: Path
    released_at: datetime


def build(directory: Path, releases: Sequence[Release]) -> tuple[GitRepository, tuple[str, ...]]:
    """A repository with one commit for each release, in their order, and the commits.

    Args:
        directory: where the (bare) repository is kept; it may hold releases of an earlier run already.
        releases: oldest first.

    Raises:
        SourceError: an archive is broken, hostile or too large; git failed.
    """
    repository = GitRepository(directory)
    if not (directory / "HEAD").exists():
        directory.mkdir(parents=True, exist_ok=True)
        repository.run("init", "--quiet", "--bare", "--initial-branch=main")
    marks = directory / "marks"
    for number, release in enumerate(releases, 1):
        # Written release by release, so that memory holds one archive at a time and a broken one is named.
        stream = b"".join(_commit(number, release))
        before = [f"--import-marks={marks}"] if number > 1 else []
        what = ("--quiet", "--force", "--done", *before, f"--export-marks={marks}")
        repository.run("fast-import", *what, stdin=stream + b"done\n")
    by_mark = dict(line.split() for line in marks.read_text().splitlines())
    return repository, tuple(by_mark[f":{n}"] for n in range(1, len(releases) + 1))


def written_at(archive: Path) -> datetime:
    """When the newest member of an archive was written, for indexes that tell no upload time.

    Raises:
        SourceError: the archive cannot be read.
    """
    try:
        with tarfile.open(archive, "r:*") as tar:
            return datetime.fromtimestamp(max((m.mtime for m in tar), default=0), tz=UTC)
    except (tarfile.TarError, EOFError, OSError, ValueError) as e:
        raise SourceError(f"`{archive.name}` cannot be read: {type(e).__name__}: {e}") from e


def _commit(number: int, release: Release) -> Iterator[bytes]:
    if number == 1:
        yield f"reset {BRANCH}\n".encode()
    yield f"commit {BRANCH}\nmark :{number}\n".encode()
    message = f"Release {release.version}\n".encode()
    yield f"committer {AUTHOR} {int(release.released_at.timestamp())} +0000\ndata {len(message)}\n".encode() + message
    if number > 1:
        yield f"from :{number - 1}\n".encode()
    yield b"deleteall\n"
    for mode, path, content in _members(release.archive):
        yield f"M {mode} inline ".encode() + _quoted(path) + f"\ndata {len(content)}\n".encode() + content + b"\n"


def _members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    """Mode, path under the archive's one top directory, and content of each file and inner link."""
    total = 0
    try:
        with tarfile.open(archive, "r:*") as tar:
            for count, member in enumerate(tar, 1):
                if count > MAX_MEMBERS:
                    raise SourceError(f"`{archive.name}` has more than {MAX_MEMBERS} members")
                _refuse_unsafe(member)
                total += member.size
                if total > MAX_UNPACKED_BYTES:
                    raise SourceError(f"`{archive.name}` unpacks to more than {MAX_UNPACKED_BYTES} bytes")
                path = _below_top(member.name)
                if path is None or member.isdir():
                    continue
                if member.issym():
                    yield "120000", path, member.linkname.encode(errors="surrogateescape")
                    continue
                source = tar.extractfile(member)
                if source is not None:
                    yield ("100755" if (member.mode or 0) & 0o100 else "100644"), path, source.read()
    except (tarfile.TarError, EOFError, OSError, KeyError, ValueError) as e:
        raise SourceError(f"`{archive.name}` cannot be read: {type(e).__name__}: {e}") from e


def _refuse_unsafe(member: tarfile.TarInfo) -> None:
    """What `tarfile.data_filter` refuses, which Pythons before 3.11.4 do not have: devices, and paths or links that leave the archive."""
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.TarError(f"`{member.name}` is neither a file nor a link")
    inside = posixpath.normpath(member.name.lstrip("/"))
    leads_to = inside
    if member.issym():
        leads_to = posixpath.normpath(posixpath.join(posixpath.dirname(inside), member.linkname))
    elif member.islnk():
        leads_to = posixpath.normpath(member.linkname.lstrip("/"))
    if any(path.startswith(("/", "..")) for path in (inside, leads_to)):
        raise tarfile.TarError(f"`{member.name}` leaves the archive")


def _below_top(name: str) -> str | None:
    parts = [p for p in PurePosixPath(name).parts if p not in {"/", "."}]
    inside = parts[1:]
    if not inside or ".." in inside or ".git" in (p.casefold() for p in inside):
        return None
    if any(p.endswith(GENERATED_SUFFIX) for p in inside):
        return None
    return "/".join(inside)


def _quoted(path: str) -> bytes:
    raw = path.encode(errors="surrogateescape")
    if not any(c in raw for c in b'"\n\\'):
        return raw
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'
