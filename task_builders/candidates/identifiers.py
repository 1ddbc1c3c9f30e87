"""Finds and removes numbers, hashes and addresses by which the upstream fix could be looked up. Pure.

`find_ids` implements the ids gate. `scrub` removes what it would find and leaves readable sentences. Code stays as it is, except for
addresses of the project and hashes of the fix. Persons' names after `@` are removed as well, so that a task notifies nobody.
"""

import re
from collections.abc import Iterator

from task_builders.candidates import prose
from task_builders.candidates.upstream import ADDRESS, THREAD, UNKNOWN, Upstream, hashes_in_code, leads_to
from task_builders.sources.linking import KEYWORD

ISSUE, CHANGE, COMMIT, PAGE, ADVISORY = "\ue010", "\ue011", "\ue012", "\ue013", "\ue014"
MARK = "[\ue010-\ue014]"
"""Private-use characters that stand for references while the words around them are examined."""
_WORDS = {
    ISSUE: "another issue",
    CHANGE: "another change",
    COMMIT: "another commit",
    PAGE: "the project's page",
    ADVISORY: "a security report",
}
_CLOSING = rf"(?:{KEYWORD}|closing|fixing|resolving)"
_NUMBERED = (
    r"(?<![\w/.&])[A-Za-z0-9][\w.-]*/[\w.-]+\#\d{1,7}\b"
    r"|(?<![\w&/\#:])\#\d{1,7}\b(?![-\w])"
    r"|(?<!\w)(?i:gh)[-\#]\d{1,7}\b"
    r"|(?<!\w)(?i:PRs?|MRs?|pull[- ]requests?|merge[- ]requests?|issues?|tickets?|bugs?)[\s-]*(?:no\.?\s*|number\s+)?\d{2,7}\b(?![.\w]\w)"
    r"|\bGHSA(?:-[0-9a-z]{4}){3}\b|\bCVE-\d{4}-\d{4,7}\b"
)
_HASH = r"(?<![\w\-/.\#%:=@])(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}(?![\w-]|\.\w)"
_ORDINAL = re.compile(
    r"\b(?:problems?|tests?|steps?|cases?|examples?|options?|items?|solutions?|questions?|points?|attempts?|approach|numbers?|parts?|lines?"
    r"|args?|arguments?|scenarios?|trials?|runs?|rules?|bullets?|columns?|rows?|errors?|versions?|priority)\s*$",
    re.IGNORECASE,
)
_MENTION = re.compile(r"(?<![\w`/.@+\-=:])@([A-Za-z0-9](?:[A-Za-z0-9-]{0,38}))(?![\w(@/]|\.\w|-\w)")
_SOMEONES = re.compile(r"\bsomeone(?:(?:\s*,|\s+and|\s*,\s*and|\s+&)?\s+someone\b)+")
_MARKDOWN_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\((https?://[^\s()]+)(?:\s+\"[^\"\n]*\")?\)")
_RST_LINK = re.compile(r"`([^`<\n]{0,200}?)\s*<(https?://[^>`\s]+)>`__?")
_ROLE_NAMES = r"(?:issues?|prs?|pull|gh|ghissue|ghpull|gh-issue|gh-pr|bug|ticket|user|commit|cve|ghsa)"
_ROLE = re.compile(rf"(?<![ \t])[ \t]*\(?(?::{_ROLE_NAMES}:|\{{{_ROLE_NAMES}\}})`[^`\n]*`\)?(?:,(?=\s*[:{{]))?", re.IGNORECASE)
_FILE_URL = re.compile(r"/(?:-/)?(?:blob|tree|raw|blame|edit)/[^/\s]+/([^\s#?)]+)(?:#L(\d+)(?:-L?(\d+))?)?")
_REFERENCE_WORDS = re.compile(
    rf"\b(?:{_CLOSING}|refs?|references?|see|also|regarding|related|relates|to|re|cf|via|from|in|by|part|of|for|issues?|bugs?|tickets?|prs?|pull|requests?"
    r"|merge|gh|and|or|addresses|address|follow(?:s|ing)?|up|on|supersedes?|replaces?|depends|reverts?|backports?|cherry|picked|commits?|as|per"
    r"|the|this|pr|link|alternative|comment|discussion|discussed|originally|reported|mentioned|due|since|partially|at)\b",
    re.IGNORECASE,
)
_PARENTHESES = re.compile(r"(?<![ \t])[ \t]*(\((?:[^()\n]|\n(?!\s*\n)){1,200}\)|\[(?:[^\[\]\n]){1,200}\](?!\())")
_LEADING_REFERENCE = re.compile(
    rf"^(?P<lead>[ \t]*(?:[-*+]\s+)?){KEYWORD}\b[:\s]{{0,3}}(?:issue|bug)?\s{{0,3}}{MARK}(?:[,\s]|and|{MARK}){{0,40}}"
    r"[-:.–—]{0,3}\s{1,3}(?=\S)",
    re.IGNORECASE | re.MULTILINE,
)
_ADVERB = r"(?:\w{2,}ly|also|thus|hence|therefore|then|now|should|would|could|will|may|might|must|can)"
_TRAILING_CLAUSE = re.compile(
    rf"(?P<begun>(?:(?:[,;]|\s[-–—])\s{{1,3}}(?:(?:and|which|this|that)\s)?|\s{{1,3}}(?:and|which|this|that)\s)(?:{_ADVERB}\s{{1,3}}){{0,3}})?"
    rf"(?(begun)|\s{{1,3}})(?:{_CLOSING}|refs?|see(?: also)?|cf\.?|related to|as per|via)"
    rf"(?:\s(?:issues?|bugs?|the|PR)){{0,3}}:?\s{{0,3}}{MARK}(?:[,\s]|and|{MARK}){{0,40}}(?=[.!;)]|[ \t]{{0,3}}$)",
    re.IGNORECASE | re.MULTILINE,
)
_NEEDS_A_VERB = re.compile(rf"\b(?:{_ADVERB}|it|they|we|i|you|he|she|does|do|did|only)$", re.IGNORECASE)
"""A text that ends so goes on with the clause behind it."""
_TRAILING_REFERENCE = re.compile(rf"\b(\w+)[,:]?[ \t]+{MARK}(?=[.!]?[ \t]*$)", re.MULTILINE)
_LEADS_TO = frozenset(
    """
    to in of by from with for see than as like on at per is are was and or since after before via under into about this the not both issue
    issues pr prs request commit bug ticket duplicate following implements supersedes reverts reverted introduced
    """.split()  # noqa: SIM905 - a table for reading
)
"""Words after which a reference is part of the sentence and cannot be removed."""
_SENTENCE = re.compile(rf"(?<=[.!?])[ \n]+(?=[A-Z])[^.!?\n]{{0,120}}{MARK}[^.!?\n]{{0,120}}[.!?](?=\s|$)")
_CREDIT = re.compile(r"[,;]?\s{0,3}\b(?:by|thanks(?:\s+to)?)\s[^()]{1,120}(?=\)$)", re.IGNORECASE)
"""The person whose change a parenthesis refers to."""
_DOUBLED = re.compile(
    r"\b(?:the\s+)?(?:issues?|tickets?|bugs?|PRs?|MRs?|pull[- ]requests?|commits?|revisions?|changeset|discussions?)\s{0,3}:?\s{1,3}"
    r"(?=another (?:issue|change|commit)\b)",
    re.IGNORECASE,
)
_REPEATED = re.compile(r"\banother (issue|change|commit)(?:(?:,|\s+and|,\s+and|\s*/|\s*&)\s+another \1)+")


def find_ids(text: str, upstream: Upstream = UNKNOWN) -> tuple[str, ...]:
    """Issue and pull request numbers, hashes and upstream addresses in a text, each once. If empty, the ids gate passes."""
    found: dict[str, None] = {}

    def in_prose(piece: str) -> str:
        for m in re.finditer(rf"{THREAD}|{_NUMBERED}|{_HASH}", piece):
            if not _is_ordinal(m):
                found[m.group()] = None
        return in_code(piece)

    def in_code(piece: str) -> str:
        found.update(dict.fromkeys(_code_ids(piece, upstream)))
        return piece

    prose.map_blocks(text, lambda p: prose.map_inline(p, in_prose, in_code), in_code)
    return tuple(found)


def scrub(text: str, upstream: Upstream = UNKNOWN) -> str:
    """The text without ids, addresses of the project and persons. Code stays, except for addresses and hashes in it."""
    return prose.map_blocks(text, lambda p: _scrub_prose(p, upstream), lambda c: _scrub_code(c, upstream))


def _is_ordinal(m: re.Match[str]) -> bool:
    """`test #1` counts; it is no reference."""
    return m.group().startswith("#") and bool(_ORDINAL.search(m.string[max(0, m.start() - 30) : m.start()]))


def _code_ids(text: str, upstream: Upstream) -> Iterator[str]:
    for m in ADDRESS.finditer(text):
        if leads_to(m.group(), upstream):
            yield m.group()
    for m in hashes_in_code(text, upstream):
        yield m.group()


def _scrub_code(text: str, upstream: Upstream) -> str:
    text = ADDRESS.sub(lambda m: "<link>" if leads_to(m.group(), upstream) else m.group(), text)
    for m in reversed(list(hashes_in_code(text, upstream))):
        text = f"{text[: m.start()]}<commit>{text[m.end() :]}"
    return text


def _scrub_prose(text: str, upstream: Upstream) -> str:
    text = _ROLE.sub("", text)
    text = _MARKDOWN_LINK.sub(lambda m: _linked(m.group(1), m.group(2), m.group(), upstream), text)
    text = _RST_LINK.sub(lambda m: _linked(m.group(1), m.group(2), m.group(), upstream), text)
    return prose.map_inline(text, lambda p: _scrub_words(p, upstream), lambda c: _scrub_code(c, upstream))


def _linked(label: str, url: str, whole: str, upstream: Upstream) -> str:
    """A link's label if the link leads upstream; a label that is itself a reference is replaced by the address."""
    if not leads_to(url, upstream):
        return whole
    if not label.strip() or re.fullmatch(rf"\W*(?:{_NUMBERED}|{_HASH})\W*", label.strip()):
        return url
    file = _FILE_URL.search(url)
    return f"{label} ({_file_words(file)})" if file else label


def _scrub_words(text: str, upstream: Upstream) -> str:
    """Replace references by marks first, so that the words around them can be examined; then replace marks by words, or remove them."""

    def url(m: re.Match[str]) -> str:
        if not leads_to(m.group(), upstream):
            return m.group()
        file = _FILE_URL.search(m.group())
        return _file_words(file) if file else _url_mark(m.group())

    def number(m: re.Match[str]) -> str:
        if _is_ordinal(m):
            return m.group()
        if m.group().startswith(("GHSA", "CVE")):
            return ADVISORY
        return CHANGE if re.match(r"p|m", m.group(), re.IGNORECASE) else ISSUE

    text = ADDRESS.sub(url, re.sub(MARK, "", text))
    text = re.sub(_HASH, COMMIT, re.sub(_NUMBERED, number, text))
    text = _without_reference_lines(text)
    for pattern in (_PARENTHESES, _SENTENCE):
        text = pattern.sub(lambda m: "" if _only_refers(_CREDIT.sub("", m.group())) else m.group(), text)
    text = _TRAILING_CLAUSE.sub(_trailing_clause, _LEADING_REFERENCE.sub(r"\g<lead>", text))
    text = _TRAILING_REFERENCE.sub(lambda m: m.group() if m.group(1).casefold() in _LEADS_TO else m.group(1), text)
    text = _REPEATED.sub(r"other \1s", _DOUBLED.sub("", _in_words(text)))
    text = _MENTION.sub(lambda m: m.group() if m.group(1).casefold() in upstream.decorators else "someone", text)
    return _SOMEONES.sub("some people", text)


def _in_words(marked: str) -> str:
    for sign, words in _WORDS.items():
        marked = marked.replace(sign, words)
    return marked


def _trailing_clause(clause: re.Match[str]) -> str:
    """Nothing, or the clause in words if the text before it goes on with it."""
    before = clause.string[max(0, clause.start() - 30) : clause.start()]
    word = re.search(r"\w+$", before)
    goes_on = _NEEDS_A_VERB.search(before) or (word and word.group().casefold() in _LEADS_TO)
    return _in_words(clause.group()) if goes_on and not clause["begun"] else ""


def _without_reference_lines(text: str) -> str:
    """Remove lines that only contain references, unless they end a sentence that began on an earlier line."""
    kept: list[str] = []
    may_begin = True
    for line in text.split("\n"):
        if may_begin and _only_refers(line):
            continue
        kept.append(line)
        may_begin = not line.strip() or line.rstrip().endswith((".", ":", ";", "!", "?", ")")) or bool(re.match(r"\s*[-*+]\s", line))
    return "\n".join(kept)


def _only_refers(piece: str) -> bool:
    """Whether a piece has references and no other content."""
    without = re.sub(MARK, "", piece)
    return without != piece and not re.search(r"\w", _REFERENCE_WORDS.sub("", without))


def _url_mark(url: str) -> str:
    if "/security/advisories/" in url:
        return ADVISORY
    if re.search(r"/(?:pulls?|merge_requests)/", url):
        return CHANGE
    if re.search(r"/(?:commits?|compare)/", url):
        return COMMIT
    return ISSUE if re.search(r"/(?:issues?|discussions)/", url) else PAGE


def _file_words(file: re.Match[str]) -> str:
    path, first, last = file.groups()
    lines = f", lines {first} to {last}" if last else f", line {first}" if first else ""
    return f"`{path}`{lines}"
