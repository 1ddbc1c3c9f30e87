"""Makes the instruction for the agent from an issue, a commit's message or a section of a changelog. Pure.

Removes what leads upstream (numbers, hashes, addresses), persons, trailers, unfilled templates and code of the fix itself. Other code in
the text stays unchanged. Must not add what the text does not say, except where the repository is.
"""

import re
from collections.abc import Sequence
from datetime import datetime

from envfarm.core.source import Comment, SourceKind, SourceRecord
from task_builders.candidates import identifiers, prose
from task_builders.candidates.patch import FilePatch
from task_builders.candidates.upstream import Upstream

WORK_DIR = "/testbed"
MAX_COMMENTS = 3
MIN_COMMENT_CHARACTERS = 80
MAX_COMMENT_CHARACTERS = 4_000
MAX_BODY_CHARACTERS = 20_000
MAX_TITLE_CHARACTERS = 300
MIN_DISTINCTIVE_CHARACTERS = 20
"""Shorter lines of a fix (`return None`) occur in many texts by chance."""

ISSUE_OPENING = "The repository in `{work_dir}` has the issue that follows. Change its code so that the issue is resolved."
CHANGE_OPENING = "Make the change that follows to the repository in `{work_dir}`."
RELEASE_OPENING = "Bring the repository in `{work_dir}` to what these notes of its next release describe."
CLOSING = "Whatever works today must go on working. The work is checked by tests that are not shown."
_FRAME = re.compile(
    "|".join(re.escape(o).replace(re.escape("{work_dir}"), "[^`\n]*") for o in (ISSUE_OPENING, CHANGE_OPENING, RELEASE_OPENING, CLOSING))
)

_TRAILER = re.compile(
    r"^[ \t>]*(?:[A-Z]\w*(?:-[A-Za-z]+)*-by|Change-Id|Cc|CC|PR-URL|PR|Reviewed-on|Issue-Id|Bug(?:zilla)?|Fixes|Closes|Refs?|See-also|Links?"
    r"|Pull-Request|Differential Revision|Backport-of|Cherry-picked-from|X-[\w-]+|Ticket|BUG|TBR|Suggested-by)[ \t]*[:=][ \t]*\S.*\n?"
    r"|^[ \t]*\(cherry picked from commit .*\)[ \t]*\n?|^[ \t]*(?:cc:?|/cc)[ \t]+@.*\n?|^[ \t]*git-svn-id:.*\n?",
    re.MULTILINE,
)
_TRAILERS_ANY_CASE = re.compile(
    r"^[ \t]*(?:co-authored-by|signed-off-by|reviewed-by|acked-by|helped-by|reported-by|tested-by)[ \t]*:.*\n?",
    re.IGNORECASE | re.MULTILINE,
)
_CI_MARK = re.compile(r"(?<![ \t])[ \t]*\[(?:skip[ -]ci|ci[ -]skip|no[ -]ci|skip[ -]tests|skip actions)\]", re.IGNORECASE)
_CHECKBOX = re.compile(r"^[ \t]*[-*+][ \t]+\[[ xX]?\].*(?:\n(?=[ \t]+\S)[ \t]+.*)*\n?", re.MULTILINE)
_EMPTY_ANSWER = re.compile(r"^[ \t]*(?:_No response_|n/?a\.?|none\.?)[ \t]*$\n?", re.IGNORECASE | re.MULTILINE)
_HEADING = re.compile(r"^[ \t]{0,3}(?:#{1,6}[ \t]+\S.*|\*\*[^*\n]+\*\*:?|[^\n]*\n[-=]{3,})[ \t]*$")
_IMAGE = re.compile(r"!\[[^\]\n]{0,300}\]\([^)\n]{0,600}\)|<img\b[^<>]{0,1000}>", re.IGNORECASE)
_SCISSORS = re.compile(r"^-{3,}[ >8]*-*\s*$")
_DIFF_FENCE = re.compile(r"^[ \t>]*(?:`{3,}|~{3,})[ \t]*(?:diff|patch)\b|^(?:diff --git |@@ -\d)", re.MULTILINE)
_BOT = re.compile(r"\[bot\]$|-bot$|^(?:codecov|coveralls|github-actions|stale|dependabot)\b", re.IGNORECASE)
_GENERATED = re.compile(r"^[^\w\n]*Generated (?:with|by)\b.*\n?", re.IGNORECASE | re.MULTILINE)
_CHORE_VERB = (
    r"fix(?:es|ed)?|updated?|add(?:s|ed)?|apply|run|address(?:ed)?|more|make|please|minor|some|small|tweak|improve|resolve|edit|satisfy"
    r"|reformat|the|a|an|new|missing|from|pr|code"
)
_CHORE_THING = (
    r"lint(?:ing|er|s)?|ci|mypy|flake8|black|ruff|isort|pre-?commit|typos?|changelog(?:[ \t]+entry)?|news(?:[ \t]?fragments?)?|tests?|docs?"
    r"|docs[ \t]+build|docstrings?|coverage|cov|review(?:[ \t]+comments?|[ \t]+feedback)?|feedback|comments?|suggestions?|formatting"
    r"|whitespace|nits?|style|wip|oops|authors|ci[ \t]+failures?|merge.*"
)
_CHORE = re.compile(
    rf"^[ \t]*[*+-][ \t]+(?:(?:{_CHORE_VERB})[ \t]+)*(?:{_CHORE_THING})\b[^\w\n]*(?:(?:again|fixes|fix|errors?|issues?|failures?)\b.*)?$",
    re.IGNORECASE,
)
_BOT_LINES = re.compile(
    r"^[ \t]*(?:[*+-][ \t]+)?(?:\[pre-commit\.ci[^\]\n]*\].*|for more information, see https?://pre-commit\.ci.*"
    r"|Update [\w./-]+\.\w{1,10}|Merge (?:remote-tracking )?branch .*|Merge (?:pull request|commit|upstream)\b.*|fixups?)"
    r"[ \t]*$\n?",
    re.MULTILINE | re.IGNORECASE,
)
_REVERT = re.compile(r"^revert(?:s|ed)?\b[:\s]*[\"“']", re.IGNORECASE)
_BOT_SUBJECT = re.compile(
    r"^\[pre-commit\.ci|^(?:build|chore)\(deps|^bump \S+ (?:from|to) "
    r"|^auto(?:matic)?[- ]?(?:format|fix)(?:t?ed|t?ing|e?s)?(?:[ ]code)?[.!]?$",
    re.IGNORECASE,
)
"""A whole commit subject of a formatter. (Something that fixes or formats automatically may also be what a change is about.)"""
_UNSPACED_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]{2}")
"""Scripts without spaces between words: two characters count as one word."""
_SUBJECT_NOISE = re.compile(
    r"^(?:\[(?:bug|feature|feature request|rfc|question|wip|issue)\]|bug(?: report)?:|feature request:|wip:)[\s:-]*", re.IGNORECASE
)


def write(record: SourceRecord, source: Sequence[FilePatch], work_dir: str = WORK_DIR) -> str:
    """The instruction for a record.

    Args:
        record: the record described.
        source: the solution's files; their added lines must not occur in remarks of the discussion or code of the issue.
        work_dir: where the agent finds the repository.
    """
    upstream = upstream_of(record)
    fix = distinctive_lines(source) if record.body_is_issue else frozenset()
    title, body = headline(record, upstream), told(record.body, upstream, fix)
    if not record.body_is_issue:
        body = _without_chores(body, title)
    pieces = [_opening(record).format(work_dir=work_dir), f"# {title}" if title else "", body]
    if remarks := _remarks(record.comments, record.created_at, upstream, distinctive_lines(source)):
        pieces.append("## From the discussion\n\n" + "\n\n".join(remarks))
    return "\n\n".join(p for p in [*pieces, CLOSING] if p) + "\n"


def without_frame(text: str) -> str:
    """An instruction without the words that every instruction has, for comparing instructions."""
    return _FRAME.sub("", text).strip()


def _opening(record: SourceRecord) -> str:
    if record.body_is_issue:
        return ISSUE_OPENING
    return RELEASE_OPENING if record.kind is SourceKind.RELEASES else CHANGE_OPENING


def headline(record: SourceRecord, upstream: Upstream) -> str:
    """The title in one line, without ids."""
    title = _SUBJECT_NOISE.sub("", _CI_MARK.sub("", record.title[:MAX_TITLE_CHARACTERS]).strip())
    cleaned = re.sub(r"\s+", " ", identifiers.scrub(title, upstream)).strip(" ,;:-–")
    return cleaned[1:-1] if cleaned.startswith("(") and cleaned.endswith(")") else cleaned


def told(text: str, upstream: Upstream, fix: frozenset[str] = frozenset()) -> str:
    """A text as the agent may read it.

    Args:
        text: Markdown, reStructuredText or plain.
        upstream: what must not be revealed.
        fix: lines of the solution; a code block with two of them is removed.
    """
    text = text[: 4 * MAX_BODY_CHARACTERS].replace("\r\n", "\n").replace("\r", "\n")
    text = prose.without_comments(text)[:MAX_BODY_CHARACTERS]
    if fix:
        text = prose.map_blocks(text, lambda p: p, lambda c: "" if _gives_away(c, fix) else c)
    text = prose.map_blocks(text, _without_forms, lambda c: c)
    text = identifiers.scrub(text, upstream)
    return prose.with_closed_fence(_tidy(_without_empty_sections(text)))


def says_nothing(record: SourceRecord, min_words: int) -> str:
    """Why a record's text is no task: a bot's mass change, a revert, fewer than `min_words` words. Empty if it can be one."""
    if not record.body_is_issue:
        if _BOT.search(record.author) or _BOT_SUBJECT.match(record.title):
            return "a bot made the change"
        if _REVERT.match(record.title):
            return "the change reverts another one"
    upstream = upstream_of(record)
    body = told(record.body, upstream)
    title = "" if record.kind is SourceKind.RELEASES else headline(record, upstream)
    text = f"{title} {body if record.body_is_issue else _without_chores(body, title)}"
    words = max(len(re.findall(r"[^\W\d_]{2,}", text)), len(_UNSPACED_WORD.findall(text)))
    return "" if words >= min_words else "the text says too little"


def upstream_of(record: SourceRecord) -> Upstream:
    """What of a record must not be revealed, and words that look like persons but are none."""
    after_at = re.findall(r"^[+\- \t>]*@([A-Za-z]\w*)", f"{record.patch}\n{record.body}", re.MULTILINE)
    in_code = re.findall(r"`@([A-Za-z]\w*)", record.body)
    return Upstream(record.name, (record.fix_commit, record.base_commit), frozenset(w.casefold() for w in (*after_at, *in_code)))


def distinctive_lines(files: Sequence[FilePatch]) -> frozenset[str]:
    """Lines that a fix adds and that occur in no text by chance."""
    added = {line.strip() for f in files for line in f.added}
    known = {line.strip() for f in files for line in f.removed}
    return frozenset(line for line in added - known if len(line) >= MIN_DISTINCTIVE_CHARACTERS)


def _gives_away(code: str, fix: frozenset[str], enough: int = 2) -> bool:
    lines = {re.sub(r"^[+>\s]*", "", line).strip() for line in code.splitlines()}
    return len(lines & fix) >= min(enough, len(fix)) > 0


def _remarks(comments: Sequence[Comment], before: datetime, upstream: Upstream, fix: frozenset[str]) -> list[str]:
    """Comments from before the fix, by people, of some length, without code of the fix."""
    found = []
    for comment in comments:
        early = comment.created_at is not None and comment.created_at < before
        if not early or _BOT.search(comment.author) or len(comment.body) > MAX_COMMENT_CHARACTERS:
            continue
        if _DIFF_FENCE.search(comment.body) or _gives_away(comment.body, fix, enough=1):
            continue
        text = told(comment.body, upstream)
        if len(text) >= MIN_COMMENT_CHARACTERS:
            found.append("\n".join(f"> {line}".rstrip() for line in text.splitlines()))
    return found[:MAX_COMMENTS]


def _without_forms(text: str) -> str:
    text = _IMAGE.sub("", text)
    text = _GENERATED.sub("", _CHECKBOX.sub("", text))
    text = _EMPTY_ANSWER.sub("", text)
    text = _TRAILERS_ANY_CASE.sub("", _TRAILER.sub("", text))
    return _CI_MARK.sub("", text)


def _without_chores(text: str, title: str) -> str:
    """Remove a squash merge's list of intermediate commits ("* lint", "* fix typo") and the repeated subject."""

    def lines(piece: str) -> str:
        kept = [line for line in piece.split("\n") if not _CHORE.match(line) and _bare(line) != _bare(title)]
        return "\n".join(kept)

    without = prose.map_blocks(_BOT_LINES.sub("", text), lines, lambda c: c)
    return _tidy(re.sub(r"\n-{5,}\Z", "", without.rstrip()))


def _bare(line: str) -> str:
    return line.lstrip(" \t*+-").rstrip(" \t.").casefold() or "\0"


def _without_empty_sections(text: str) -> str:
    """Remove headings without content, innermost first. Code is never taken for a heading."""
    blocks: list[tuple[str, int]] = []
    for part in prose.parts(text):
        if part.is_code:
            blocks.append((part.text, 0))
        else:
            blocks += [(block, _level(block)) for block in re.split(r"(?<=\n)(?=[ \t]*\n)", part.text)]
    kept: list[str] = []
    below: int | None = None  # level of the nearest block with content: None at the end, 0 if it is no heading
    for block, level in reversed(blocks):
        if block.strip():
            if below is None and _SCISSORS.match(block.strip()):
                continue
            if level and (below is None or 0 < below <= level):
                continue
            below = level
        kept.append(block)
    return "".join(reversed(kept))


def _level(block: str) -> int:
    """A heading's depth; 0 for other blocks."""
    if not _HEADING.fullmatch(block.strip()):
        return 0
    marks = len(block.strip()) - len(block.strip().lstrip("#"))
    return marks or 7


def _tidy(text: str) -> str:
    """Remove space at line ends and before punctuation that lost its reference, and repeated blank lines; code stays."""

    def words(piece: str) -> str:
        piece = "\n".join(line.rstrip(" \t") for line in piece.split("\n"))
        piece = re.sub(r"(?<=\w) +([.,;:!?])(?=\s|$)", r"\1", piece)
        return re.sub(r"\n{3,}", "\n\n", piece)

    return re.sub(r"\n{4,}", "\n\n\n", prose.map_blocks(text, words, lambda c: c)).strip("\n").rstrip()
