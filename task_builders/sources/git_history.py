"""Plain git history as a source: commits that touch source and tests at once, joined to the issues that they close.

Called by the minting pipeline with one entry of a sources file. Every commit that is looked at is accounted for, as a record or as a
rejection with its reason. Must not judge texts or licences (candidates do), nor write to the repository.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.source import Comment, SourceKind, SourceRecord
from task_builders.sources import issue_file, licence_detection, linking
from task_builders.sources.clone import Progress, name_of, open_repository, silent
from task_builders.sources.git import CommitText, GitRepository, Touched
from task_builders.sources.issue_file import Issue, Issues
from task_builders.sources.path_rules import PathRules
from task_builders.sources.source_models import GitSource, ListedCommits, NewestCommits, RangeOfCommits, SampledCommits

MAX_ISSUES = 3
"""Issues that one fix may close and still be told as one task."""

MAX_PATCH_CHARACTERS = 4_000_000
"""Above this a patch is a vendored tree or a data set, and no one's task."""


class Told(NamedTuple):
    """What is wanted, in people's words."""

    url: str
    title: str
    body: str
    is_issue: bool
    author: str
    comments: tuple[Comment, ...] = ()


@dataclass(frozen=True)
class History:
    """A repository with all that is needed to make records of its commits."""

    repository: GitRepository
    address: str
    """What `git clone` takes."""
    name: str
    issues: Issues = field(default_factory=Issues)
    licence: str | None = None
    """Given by a person; else it is detected at each base."""
    head: str = "HEAD"
    kind: SourceKind = SourceKind.GIT
    pull_request: int | None = None
    """The pull request that every commit asked for came by, where that is known; else messages and refs tell."""

    def record(self, commit: str, base: str | None = None) -> SourceRecord | Rejection:
        """The record of one commit, whatever it touches.

        Args:
            commit: the fix.
            base: where the fix starts; its first parent where it is absent.

        Raises:
            SourceError: git failed.
        """
        text = self.repository.text_of(commit)
        if not text.parents:
            return self.rejection(commit, "the commit has no parent to start from")
        base = base or text.parents[0]
        patch = self.repository.patch(base, commit)
        if len(patch) > MAX_PATCH_CHARACTERS:
            return self.rejection(commit, "the change is too large", f"{len(patch)} characters")
        told = self._told(text)
        return SourceRecord(
            kind=self.kind,
            url=told.url,
            repository=self.address,
            name=self.name,
            title=told.title,
            body=told.body,
            body_is_issue=told.is_issue,
            comments=told.comments,
            licence=self.licence or licence_at(self.repository, base),
            author=told.author,
            created_at=text.committed_at,
            base_commit=base,
            fix_commit=commit,
            patch=patch,
        )

    def rejection(self, commit: str, reason: str, detail: str = "") -> Rejection:
        """Why a commit gives no record."""
        url = commit_url(self.address, commit)
        return Rejection(
            source_digest=digest.of_json([url, commit]), name=self.name, url=url, gate=Gate.CANDIDATE, reason=reason, detail=detail
        )

    @cached_property
    def _heads(self) -> dict[str, tuple[int, ...]]:
        return pull_request_heads(self.repository)

    def _told(self, text: CommitText) -> Told:
        numbers = self._pull_requests(text)
        if issues := self._issues_of(text, numbers):
            first = issues[0]
            more = "".join(f"\n\n## {i.title}\n\n{i.body}" for i in issues[1:MAX_ISSUES])
            url = first.url or f"{self.address}#{first.number}"
            return Told(url, first.title, first.body + more, True, first.author, tuple(c for i in issues[:MAX_ISSUES] for c in i.comments))
        threads = (self.issues.numbered(self.name, n) for n in numbers)
        pull_request = next((t for t in threads if t is not None and t.is_pull_request), None)
        if pull_request is not None:
            url = pull_request.url or f"{self.address}#{pull_request.number}"
            return Told(url, pull_request.title, pull_request.body, False, pull_request.author, pull_request.comments)
        subject, _, body = text.message.partition("\n")
        return Told(commit_url(self.address, text.commit), subject.strip(), body.strip("\n"), False, text.author)

    def _issues_of(self, text: CommitText, pull_requests: tuple[int, ...]) -> list[Issue]:
        """By what the issue says of its fix, by what the commit says that it closes, by what its pull request says."""
        found: dict[int, Issue] = {}
        fixed = self.issues.fixed_by(text.commit)
        if fixed is not None:
            found[fixed.number] = fixed
        messages = [text.message]
        for number in pull_requests:
            found |= {i.number: i for i in self.issues.fixed_by_pull_request(self.name, number)}
            thread = self.issues.numbered(self.name, number)
            if thread is not None and thread.is_pull_request:
                messages.append(f"{thread.title}\n{thread.body}")
            elif thread is not None:
                found[number] = thread  # some people put the issue's number where a squash merge puts its own
        for message in messages:
            for number in linking.own_numbers(linking.closing_references(message), self.name):
                issue = self.issues.numbered(self.name, number)
                if issue is not None and not issue.is_pull_request:
                    found[number] = issue
        return list(found.values())

    def _pull_requests(self, text: CommitText) -> tuple[int, ...]:
        if self.pull_request is not None:
            return (self.pull_request,)
        squashed = linking.squashed_pull_request(text.message)
        if squashed is not None:
            return (squashed,)
        heads = self._heads.get(text.commit, ())
        merged = merged_by(self.repository, text.commit, self.head)
        return tuple(dict.fromkeys((*heads, *([merged] if merged is not None else []))))


def read(source: GitSource, rules: PathRules, mirrors: Path, progress: Progress = silent) -> Iterator[SourceRecord | Rejection]:
    """The records of a history, drawn as the source says, and a rejection for each other commit that was looked at.

    Args:
        source: an entry of a sources file.
        rules: the language's split of paths.
        mirrors: where clones of addresses are kept.
        progress: told about fetching.

    Raises:
        SourceError: the repository or the issues cannot be read, or a commit named does not exist.
    """
    repository = open_repository(source.repository, mirrors, progress)
    name = source.name or name_of(source.repository)
    issues = issue_file.read(Path(source.issues), name) if source.issues else Issues()
    history = History(repository, source.repository, name, issues, source.licence)
    yield from draw(history, source.commits, rules)


def draw(
    history: History, commits: NewestCommits | SampledCommits | ListedCommits | RangeOfCommits, rules: PathRules
) -> Iterator[SourceRecord | Rejection]:
    """The commits that are asked for. `newest` and `sample` count commits that touch source and tests; `list` and `range` take all.

    Raises:
        SourceError: git failed, or a commit named does not exist.
    """
    repository = history.repository
    match commits:
        case NewestCommits(newest=wanted):
            made = 0
            for touched in repository.touched([c.commit for c in repository.commits(repository.resolve("HEAD"))]):
                if made == wanted:
                    return
                made += unfit(touched.paths, rules) is None
                yield _consider(history, touched, rules)
        case SampledCommits(sample=wanted, seed=seed, since=since):
            dated = repository.commits(repository.resolve("HEAD"))
            young = [c.commit for c in dated if since is None or c.seconds >= since.timestamp()]
            looked_at = list(repository.touched(young))
            fit = [t.commit for t in looked_at if unfit(t.paths, rules) is None]
            # Sorted first: a draw depends on the seed and the set of commits, not on the order in which git tells them.
            drawn = set(random.Random(seed).sample(sorted(fit), min(wanted, len(fit))))  # noqa: S311 - a draw, not a secret
            for touched in looked_at:
                if touched.commit in drawn or unfit(touched.paths, rules) is not None:
                    yield _consider(history, touched, rules)
        case ListedCommits(listed=listed):
            for touched in repository.touched([repository.resolve(c) for c in listed]):
                yield _consider(history, touched, rules)
        case RangeOfCommits(span=span):
            start, _, end = span.partition("..")
            revisions = f"{repository.resolve(start)}..{repository.resolve(end or 'HEAD')}"
            in_span = replace(history, head=repository.resolve(end or "HEAD"))
            for touched in repository.touched([c.commit for c in repository.commits(revisions)]):
                yield _consider(in_span, touched, rules)


def unfit(paths: tuple[str, ...], rules: PathRules) -> str | None:
    """Why a change of these paths can be no task; None where it touches source and tests."""
    tests = any(rules.is_test(p) for p in paths)
    source = any(rules.is_source(p) and not rules.is_test(p) for p in paths)
    if tests and source:
        return None
    if tests:
        return "the change touches tests alone" if all(map(rules.is_test, paths)) else "the change touches tests, but no source"
    return "the change touches no test" if source else "the change touches neither"


def commit_url(address: str, commit: str) -> str:
    """The commit's page, or `path@commit` where there is no page."""
    if address.startswith(("http://", "https://")):
        return f"{address.rstrip('/').removesuffix('.git')}/commit/{commit}"
    return f"{address}@{commit}"


def licence_at(repository: GitRepository, commit: str) -> str | None:
    """The licence of the tree at a commit, as an SPDX expression; None where it is not known for certain."""

    def read_text(path: str) -> str | None:
        content = repository.read(commit, path)
        return None if content is None else content.decode(errors="replace")

    return licence_detection.of_tree(repository.root_files(commit), read_text)


def pull_request_heads(repository: GitRepository) -> dict[str, tuple[int, ...]]:
    """Numbers of the pull requests whose last commit is this one, by commit."""
    heads: dict[str, tuple[int, ...]] = {}
    out = repository.run("for-each-ref", "--format=%(objectname) %(refname)", "refs/pull/*/head").decode(errors="replace")
    for line in out.splitlines():
        commit, ref = line.split(" ", 1)
        number = ref.split("/")[2]
        if number.isdigit():
            heads[commit] = (*heads.get(commit, ()), int(number))
    return heads


def merged_by(repository: GitRepository, commit: str, head: str) -> int | None:
    """The pull request whose merge first brought the commit towards `head`."""
    span = ("--merges", "--ancestry-path", "--reverse", "--format=%s", f"{commit}..{head}")
    subjects = repository.run("log", *span, "--").decode(errors="replace").splitlines()
    return next((n for s in subjects if (n := linking.merged_pull_request(s)) is not None), None)


def _consider(history: History, touched: Touched, rules: PathRules) -> SourceRecord | Rejection:
    reason = unfit(touched.paths, rules)
    return history.rejection(touched.commit, reason) if reason else history.record(touched.commit)
