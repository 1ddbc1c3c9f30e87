"""Makes a candidate of a source record, or a rejection with the reason. Pure.

The gates here need no box: the change can be split, its size suits one task, the text says enough and does not lead upstream, the licence
is known. `dedup` and `decontamination`, which compare across records, come later.
"""

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.frozen import Frozen
from envfarm.core.source import SourceRecord
from envfarm.core.storable import encodable
from task_builders.candidates import identifiers, instruction, patch
from task_builders.candidates.licence import Terms, terms
from task_builders.candidates.patch import FilePatch, PatchError
from task_builders.candidates.split import split
from task_builders.sources.path_rules import PathRules


class Limits(Frozen):
    """Limits for one task."""

    max_source_files: int = 25
    """A larger change is a sweep over the tree, not one task."""
    max_source_lines: int = 1500
    """Lines that the solution adds and removes."""
    min_words: int = 4
    """Minimum number of words in title and body, without those that carry no information."""
    work_dir: str = instruction.WORK_DIR
    """Where the agent finds the repository."""


DEFAULT_LIMITS = Limits()


def make(record: SourceRecord, rules: PathRules, limits: Limits = DEFAULT_LIMITS) -> Candidate | Rejection:
    """The candidate of a record, or the first reason against it."""
    try:
        files = patch.parse(record.patch)
    except PatchError as e:
        return Rejection.of(record, Gate.CANDIDATE, "the patch cannot be read", str(e))
    parted = split(files, rules)
    if reason := _shape(parted.source, parted.tests, rules, limits):
        return Rejection.of(record, Gate.CANDIDATE, *reason)
    if empty := instruction.says_nothing(record, limits.min_words):
        return Rejection.of(record, Gate.CANDIDATE, empty, record.title)
    text = instruction.write(record, parted.source, limits.work_dir)
    if left := identifiers.find_ids(text, instruction.upstream_of(record)):
        return Rejection.of(record, Gate.IDS, "the instruction leads upstream", ", ".join(left))
    if record.licence is None or terms(record.licence) is Terms.UNKNOWN:
        return Rejection.of(record, Gate.LICENCE, "the licence is not known", record.licence or "none found")
    gone = tuple(p for f in parted.tests for p in ([f.path] if f.is_removed else [f.renamed_from] if f.renamed_from else []))
    return Candidate(
        source_digest=record.digest,
        repository=record.repository,
        name=record.name,
        url=record.url,
        language=rules.name,
        instruction=text,
        licence=record.licence,
        author=record.author,
        created_at=record.created_at,
        base_commit=record.base_commit,
        fix_commit=record.fix_commit,
        source_patch=patch.join(parted.source),
        test_patch=patch.join(parted.tests),
        source_paths=tuple(f.path for f in parted.source),
        test_paths=tuple(f.path for f in parted.tests if not f.is_removed),
        removed_test_paths=gone,
    )


def _shape(source: tuple[FilePatch, ...], tests: tuple[FilePatch, ...], rules: PathRules, limits: Limits) -> tuple[str, str] | None:
    """Why the parts are no task: a reason and its figures."""
    lines = sum(len(f.added) + len(f.removed) for f in source)
    code = [f for f in source if rules.is_source(f.path)]
    both = (*source, *tests)
    has_content = any(line.strip() for f in code for line in (*f.added, *f.removed)) or any(f.renamed_from for f in code)
    names = [name for f in both for name in (f.path, f.renamed_from or "")]
    faults = (
        (not code, "the fix touches no source", f"{len(tests)} test files"),
        (not any(f.added for f in tests), "the fix adds nothing to tests", f"{sum(f.is_removed for f in tests)} test files removed"),
        (names != [*map(encodable, names)], "a file's name is not UTF-8", ", ".join(encodable(n) for n in names if encodable(n) != n)),
        (any(f.is_submodule for f in both), "the fix moves a submodule", ""),
        (any(f.is_binary and "GIT binary patch" not in f.text for f in both), "the patch leaves binary files out", ""),
        (len(source) > limits.max_source_files, "the fix is too large for one task", f"{len(source)} files"),
        (lines > limits.max_source_lines, "the fix is too large for one task", f"{lines} lines"),
        (not has_content, "the fix changes no line of source", ""),
    )
    return next(((reason, figures) for is_so, reason, figures in faults if is_so), None)
