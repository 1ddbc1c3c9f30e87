"""Consecutive releases of a Python package as a source: what changed between two source distributions, told by the changelog.

Called by the minting pipeline with one entry of a sources file. For packages without a public history, and for those whose releases are
better described than their commits. Every release that is looked at is accounted for. Must not run anything of a package.
"""

import email.parser
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import SourceError
from envfarm.core.source import SourceKind, SourceRecord
from task_builders.sources import changelog, licence_detection, release_history
from task_builders.sources.git import GitRepository
from task_builders.sources.git_history import MAX_PATCH_CHARACTERS, licence_at, unfit
from task_builders.sources.package_index import DEFAULT_INDEX, IndexFile, PackageIndex, ProjectListing, shown
from task_builders.sources.path_rules import PathRules
from task_builders.sources.patience import Patience
from task_builders.sources.release_history import ARCHIVE_SUFFIXES, Release
from task_builders.sources.source_models import ReleasesSource

METADATA_FILE = "PKG-INFO"


@dataclass(frozen=True, slots=True)
class IndexAccess:
    """How the index is reached."""

    url: str = DEFAULT_INDEX
    """See `package_index.index_url`."""
    verify: ssl.SSLContext | None = None
    """Which certificates count; the system's where it is absent."""
    patience: Patience = field(default_factory=Patience)


def read(source: ReleasesSource, rules: PathRules, directory: Path, access: IndexAccess) -> Iterator[SourceRecord | Rejection]:
    """A record for each pair of neighbouring releases, or the reason why there is none.

    Args:
        source: an entry of a sources file.
        rules: the language's split of paths.
        directory: where archives and the repository made of them are kept.
        access: the index, its certificates, and how waiting is done.

    Raises:
        SourceError: the index or an archive cannot be had, or a version named does not exist.
    """
    place = directory / canonicalize_name(source.package)
    with PackageIndex(access.url, access.verify, access.patience) as index:
        chosen = choose(index.project(source.package), source)
        releases = []
        for version, file in chosen:
            access.patience.progress(f"downloading {file.filename}")
            archive = index.download(file, place / "archives")
            releases.append(Release(str(version), archive, file.upload_time or release_history.written_at(archive)))
    # The repository's name follows from its releases: another choice of versions makes other commits.
    key = digest.of_json([r.version for r in releases]).removeprefix("sha256:")[:12]
    repository, commits = release_history.build(place / f"{key}.git", releases)
    pairs = Pairs(source, rules, access.url, repository, commits)
    for newer in range(1, len(releases)):
        yield pairs.record(releases, newer)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Neighbouring releases in the repository made of them."""

    source: ReleasesSource
    rules: PathRules
    index_url: str
    repository: GitRepository
    commits: tuple[str, ...]

    def record(self, releases: list[Release], newer: int) -> SourceRecord | Rejection:
        """The record of a release and the one before it."""
        release, base, fix = releases[newer], self.commits[newer - 1], self.commits[newer]
        paths = self._paths(fix)
        if not any(self.rules.is_test(p) for p in paths):
            return self._rejection(release, "the source distribution has no tests")
        touched = next(iter(self.repository.touched([fix]))).paths
        if reason := unfit(touched, self.rules):
            return self._rejection(release, reason)
        notes = self._notes(fix, paths, release.version)
        if notes is None:
            return self._rejection(release, "no changelog tells of the release")
        patch = self.repository.patch(base, fix)
        if len(patch) > MAX_PATCH_CHARACTERS:
            return self._rejection(release, "the change is too large", f"{len(patch)} characters")
        return SourceRecord(
            kind=SourceKind.RELEASES,
            url=release_url(self.index_url, self.source.package, release.version),
            repository=str(self.repository.path),
            name=self.source.package,
            title=f"Release {release.version}",
            body=notes,
            body_is_issue=False,
            licence=self.source.licence or self._licence(fix),
            created_at=release.released_at,
            base_commit=base,
            fix_commit=fix,
            patch=patch,
        )

    def _paths(self, commit: str) -> tuple[str, ...]:
        out = self.repository.run("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit)
        return tuple(p.decode(errors="surrogateescape") for p in out.split(b"\0") if p)

    def _notes(self, commit: str, paths: tuple[str, ...], version: str) -> str | None:
        for path in changelog.candidates(paths):
            text = (self.repository.read(commit, path) or b"").decode(errors="replace")
            if found := changelog.section(text, version):
                return found
        return None

    def _licence(self, commit: str) -> str | None:
        content = self.repository.read(commit, METADATA_FILE)
        stated = licence_of_metadata(content.decode(errors="replace")) if content else None
        return stated or licence_at(self.repository, commit)

    def _rejection(self, release: Release, reason: str, detail: str = "") -> Rejection:
        url = release_url(self.index_url, self.source.package, release.version)
        return Rejection(
            source_digest=digest.of_json([url, reason]),
            name=self.source.package,
            url=url,
            gate=Gate.CANDIDATE,
            reason=reason,
            detail=detail,
        )


def choose(listing: ProjectListing, source: ReleasesSource) -> list[tuple[Version, IndexFile]]:
    """The releases that are asked for, oldest first, each with its source distribution.

    Raises:
        SourceError: fewer than two have one, or a version named has none.
    """
    archives: dict[Version, IndexFile] = {}
    for file in listing.files:
        if not file.filename.endswith(ARCHIVE_SUFFIXES):
            continue
        version = _version_of(file.filename)
        if version is not None and (source.versions is not None or not (file.yanked or version.is_prerelease)):
            archives.setdefault(version, file)
    if source.versions is not None:
        try:
            wanted = sorted({Version(v) for v in source.versions})
        except InvalidVersion as e:
            raise SourceError(f"`{source.package}`: {e}") from e
        if missing := [str(v) for v in wanted if v not in archives]:
            known = ", ".join(str(v) for v in sorted(archives)[-10:])
            said = f"`{source.package}` has no source distribution of {', '.join(missing)}"
            raise SourceError(said, hint=f"the newest with one: {known}")
        wanted = [v for v in sorted(archives) if v in wanted]  # as the archives spell them: 1.0 for 1.0.0
    else:
        wanted = sorted(archives)[-(source.newest or 0) :]
    if len(wanted) < 2:  # noqa: PLR2004 - a pair
        raise SourceError(
            f"`{source.package}` has {len(wanted)} final releases with a source distribution: two are needed",
            hint="packages that publish wheels alone have no tests to read",
        )
    return [(v, archives[v]) for v in wanted]


def licence_of_metadata(text: str) -> str | None:
    """The licence of a distribution's core metadata: its expression, else its classifiers, else its free text if that is definite."""
    head = email.parser.HeaderParser().parsestr(text)
    if (stated := head.get("License-Expression")) and (spdx := licence_detection.expression(stated)):
        return spdx
    if spdx := licence_detection.of_classifiers(head.get_all("Classifier") or ()):
        return spdx
    return licence_detection.of_name(head.get("License") or "")


def release_url(index: str, package: str, version: str) -> str:
    """A release's page: PyPI's, or its entry in another index."""
    if index == DEFAULT_INDEX:
        host = urlsplit(index)
        return f"{host.scheme}://{host.netloc}/project/{canonicalize_name(package)}/{version}/"
    return f"{shown(index)}/{canonicalize_name(package)}/#{version}"


def _version_of(filename: str) -> Version | None:
    """The version of `name-1.0.tar.gz`. The tooling knows `.tar.gz` alone, so other endings are made into it."""
    stem = next(filename.removesuffix(s) for s in ARCHIVE_SUFFIXES if filename.endswith(s))
    try:
        return parse_sdist_filename(f"{stem}.tar.gz")[1]
    except (InvalidSdistFilename, InvalidVersion):
        return None
