"""Splits a fix into its solution, its tests, and the rest. Pure.

The language's rules say what is a test and what is source. Documentation, changelogs, licences, CI and a release's generated metadata
belong to neither part: in a solution they are noise, and they age badly. Other files (package data, build files, lock files) go with the
solution, which may need them, but do not count as source.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from task_builders.candidates.patch import FilePatch
from task_builders.sources.path_rules import PathRules

_DOC_DIRECTORIES = frozenset({"doc", "docs", "documentation", "website", "site-docs"})
_CI_DIRECTORIES = frozenset({
    ".github", ".gitlab", ".circleci", ".azure-pipelines", ".buildkite", ".travis", ".ci", ".changeset", ".vscode",
})  # fmt: skip
_NEWS_DIRECTORIES = frozenset({"changelog.d", "changes.d", "news.d", "newsfragments", "changelog", "changelogs", "releasenotes", "news"})
_CI_FILES = frozenset({
    ".travis.yml", ".gitlab-ci.yml", "appveyor.yml", ".appveyor.yml", "azure-pipelines.yml", ".coveragerc", "codecov.yml", ".codecov.yml",
    ".readthedocs.yml", ".readthedocs.yaml", ".pre-commit-config.yaml", ".editorconfig", ".gitignore", ".gitattributes", ".mailmap",
    "jenkinsfile", "renovate.json",
})  # fmt: skip
_PROSE_SUFFIXES = frozenset({"", ".md", ".rst", ".txt", ".adoc", ".markdown"})
_PROSE_NAMES = re.compile(
    r"^(?:readme|changes|changelog|history|news|releases?(?:[-_]?notes)?|whats[-_]?new|authors|contributors|credits|thanks|contributing"
    r"|maintainers|code[-_]of[-_]conduct|security|todo|upgrad(?:e|ing)|migrat(?:ion|ing)|licen[cs]e|copying|notice|install)(?:[-_.].*)?$",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Split:
    """A fix in its parts. Every file of the patch is in exactly one."""

    source: tuple[FilePatch, ...]
    tests: tuple[FilePatch, ...]
    left_out: tuple[FilePatch, ...]


def split(files: tuple[FilePatch, ...], rules: PathRules) -> Split:
    """Assign each file of a fix to its part. A moved file counts by its new name."""
    source, tests, left_out = [], [], []
    for file in files:
        if rules.is_test(file.path):
            tests.append(file)
        elif _is_noise_to(rules, file.path) or (file.renamed_from is not None and _is_noise_to(rules, file.renamed_from)):
            left_out.append(file)
        else:
            source.append(file)
    return Split(tuple(source), tuple(tests), tuple(left_out))


def _is_noise_to(rules: PathRules, path: str) -> bool:
    """Whether the rules agree that it is noise: a news directory may be a package of that name, whose code is source."""
    return is_noise(path) and not (PurePosixPath(path).parts[0].casefold() in _NEWS_DIRECTORIES and rules.is_source(path))


def is_noise(path: str) -> bool:
    """Whether a file is documentation, a changelog, a licence or CI, and so belongs to neither the solution nor the tests."""
    where = PurePosixPath(path)
    top = where.parts[0].casefold() if len(where.parts) > 1 else ""
    if top in _DOC_DIRECTORIES | _CI_DIRECTORIES | _NEWS_DIRECTORIES:
        return True
    if where.name.casefold() in _CI_FILES or where.name == "PKG-INFO" or any(p.endswith((".egg-info", ".dist-info")) for p in where.parts):
        return True
    return where.suffix.casefold() in _PROSE_SUFFIXES and bool(_PROSE_NAMES.match(where.name))
