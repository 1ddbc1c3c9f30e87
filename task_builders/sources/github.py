"""Issues of a GitHub repository with the changes that fixed them: pull requests, and commits that closed an issue.

Called by the minting pipeline with one entry of a sources file. The API tells what people wrote and what closed what; the history itself
comes from a clone, as for any git source. Every merged pull request that is looked at is accounted for.
"""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from envfarm.core.candidate import Rejection
from envfarm.core.errors import SourceError
from envfarm.core.source import Comment, SourceKind, SourceRecord
from task_builders.sources import issue_file, licence_detection, linking
from task_builders.sources.clone import open_repository
from task_builders.sources.git import GitRepository, NoSuchCommit
from task_builders.sources.git_history import History, unfit
from task_builders.sources.github_client import GithubClient
from task_builders.sources.issue_file import Issue, Issues
from task_builders.sources.path_rules import PathRules
from task_builders.sources.patience import Patience
from task_builders.sources.source_models import GithubSource

PER_PAGE = 100
MAX_COMMITS = 200
"""Commits of one pull request, above which it is no single task anyway."""


@dataclass(frozen=True, slots=True)
class GithubAccess:
    """How the API is reached."""

    token: str = ""
    """Sixty requests an hour without, five thousand with."""
    verify: ssl.SSLContext | None = None
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, slots=True)
class Project:
    """A repository as the API knows it: under its present name, wherever it was moved."""

    name: str
    clone_url: str
    licence: str | None

    @staticmethod
    def from_rest(row: Mapping[str, Any], licence: str | None) -> "Project":
        """From the API's JSON.

        Raises:
            SourceError: it is no repository.
        """
        try:
            stated = (row.get("license") or {}).get("spdx_id") or ""
            return Project(row["full_name"], row["clone_url"], licence or licence_detection.expression(stated))
        except (KeyError, TypeError, AttributeError) as e:
            raise SourceError(f"the API's answer is no repository: {e!r}", hint="is `base_url` GitHub's API?") from e


@dataclass(frozen=True, slots=True)
class PullRequest:
    """A merged pull request."""

    number: int
    merge_commit: str
    merged_at: datetime
    updated_at: datetime


def read(source: GithubSource, rules: PathRules, directory: Path, access: GithubAccess) -> Iterator[SourceRecord | Rejection]:
    """The records of a repository's fixes, newest first, and a rejection for each other that was looked at.

    Args:
        source: an entry of a sources file.
        rules: the language's split of paths.
        directory: where answers, cursors and the clone are kept.
        access: token, certificates, and how waiting is done.

    Raises:
        SourceError: the API or the repository cannot be read.
    """
    kept = directory / source.repository.replace("/", "-")
    with GithubClient(kept, source.base_url, access.token, access.verify, access.patience) as client:
        project = Project.from_rest(client.get(f"/repos/{source.repository}"), source.licence)
        threads = _threads(client, project)
        merged = _merged(client, project)
        repository = open_repository(project.clone_url, directory / "mirrors", access.patience.progress)
        harvest = Harvest(client, project, repository, threads, rules)
        made = 0
        for outcome in harvest.outcomes(merged, source.since):
            yield outcome
            made += isinstance(outcome, SourceRecord)
            if made == source.limit:
                return


@dataclass(frozen=True, slots=True)
class Harvest:
    """Everything that records are made of."""

    client: GithubClient
    project: Project
    repository: GitRepository
    threads: Mapping[int, Issue]
    rules: PathRules

    def outcomes(self, merged: list[PullRequest], since: datetime | None) -> Iterator[SourceRecord | Rejection]:
        """Pull requests first; then commits that closed an issue without one."""
        linked: set[int] = set()
        for pull_request in sorted(merged, key=lambda p: p.number, reverse=True):
            issues = self._issues_of(pull_request.number)
            linked |= {i.number for i in issues}
            if since is not None and pull_request.updated_at < since:
                continue
            yield self._of_pull_request(pull_request, issues)
        for issue in sorted(self.threads.values(), key=lambda i: i.number, reverse=True):
            if not issue.is_pull_request and issue.number not in linked:
                yield from self._of_closing_commit(issue, since)

    def _issues_of(self, number: int) -> list[Issue]:
        thread = self.threads.get(number)
        if thread is None:
            return []
        references = linking.closing_references(f"{thread.title}\n{thread.body}")
        found = (self.threads.get(n) for n in linking.own_numbers(references, self.project.name))
        return [i for i in found if i is not None and not i.is_pull_request]

    def _of_pull_request(self, pull_request: PullRequest, issues: list[Issue]) -> SourceRecord | Rejection:
        fix = pull_request.merge_commit
        own = self.threads.get(pull_request.number)
        history = self._history([*issues, *([own] if own else [])], fix, pull_request.number)
        try:
            base = self._base(pull_request)
            if reason := unfit(self.repository.paths_between(base, fix), self.rules):
                return history.rejection(fix, reason)
        except NoSuchCommit as e:
            return history.rejection(fix, "the merged commit is not in the repository", str(e))
        return self._with_thread(issues, history, fix, base)

    def _of_closing_commit(self, issue: Issue, since: datetime | None) -> Iterator[SourceRecord | Rejection]:
        events = self.client.get(f"/repos/{self.project.name}/issues/{issue.number}/timeline?per_page={PER_PAGE}", reuse=True)
        closed = [e for e in events if isinstance(e, dict) and e.get("event") == "closed" and e.get("commit_id")]
        for event in closed[-1:]:
            fix = str(event["commit_id"])
            if since is not None and datetime.fromisoformat(event["created_at"]) < since:
                continue
            history = self._history([issue], fix)
            try:
                base = self.repository.resolve(f"{fix}^")
                reason = unfit(self.repository.paths_between(base, fix), self.rules)
            except NoSuchCommit as e:
                yield history.rejection(fix, "the closing commit is not in the repository", str(e))
                continue
            yield history.rejection(fix, reason) if reason else self._with_thread([issue], history, fix, base)

    def _with_thread(self, issues: list[Issue], history: History, fix: str, base: str) -> SourceRecord | Rejection:
        """The record, with the remarks of its issues: asked for only now, since most changes come to nothing."""
        record = history.record(fix, base)
        if isinstance(record, Rejection) or not issues:
            return record
        return record.model_copy(update={"comments": tuple(c for i in issues for c in self._comments(i))})

    def _comments(self, issue: Issue) -> tuple[Comment, ...]:
        rows = self.client.get(f"/repos/{self.project.name}/issues/{issue.number}/comments?per_page={PER_PAGE}", reuse=True)
        return issue_file.from_rest({"number": issue.number, "comments": rows}).comments

    def _base(self, pull_request: PullRequest) -> str:
        """Where a pull request starts: before its merge or squash, or before the first of its rebased commits."""
        fix = pull_request.merge_commit
        first = self.repository.resolve(f"{fix}^1")
        if len(self.repository.text_of(fix).parents) > 1:
            return first
        try:
            head = self.repository.resolve(f"refs/pull/{pull_request.number}/head")
        except NoSuchCommit:
            return first
        written = self.repository.subjects(f"{first}..{head}", MAX_COMMITS)
        merged = self.repository.subjects(fix, len(written)) if written else ()
        return self.repository.resolve(f"{fix}~{len(written)}") if len(written) > 1 and written == merged else first

    def _history(self, threads: list[Issue], fix: str, pull_request: int | None = None) -> History:
        """A history that knows just these threads; issues among them name the fix."""
        known = tuple(t if t.is_pull_request else t.model_copy(update={"fix_commit": fix}) for t in threads)
        return History(
            repository=self.repository,
            address=self.project.clone_url,
            name=self.project.name,
            issues=Issues(known),
            licence=self.project.licence,
            kind=SourceKind.GITHUB,
            pull_request=pull_request,
        )


def _threads(client: GithubClient, project: Project) -> dict[int, Issue]:
    """All closed issues and pull requests: oldest first, so that pages do not move while they are read."""
    path = f"/repos/{project.name}/issues?state=closed&sort=created&direction=asc&per_page={PER_PAGE}"
    found: dict[int, Issue] = {}
    for page in client.listing("issues", path):
        for row in page:
            try:
                issue = issue_file.from_rest({**row, "comments": None}, project.name)
            except (KeyError, TypeError, AttributeError, ValueError) as e:
                raise SourceError(f"`{project.name}`: the API's answer is no issue: {e!r}", hint="is `base_url` GitHub's API?") from e
            found[issue.number] = issue
    return found


def _merged(client: GithubClient, project: Project) -> list[PullRequest]:
    path = f"/repos/{project.name}/pulls?state=closed&sort=created&direction=asc&per_page={PER_PAGE}"
    return [
        PullRequest(
            number=row["number"],
            merge_commit=row["merge_commit_sha"],
            merged_at=datetime.fromisoformat(row["merged_at"]),
            updated_at=datetime.fromisoformat(row.get("updated_at") or row["merged_at"]),
        )
        for page in client.listing("pulls", path)
        for row in page
        if row.get("merged_at") and row.get("merge_commit_sha")
    ]
