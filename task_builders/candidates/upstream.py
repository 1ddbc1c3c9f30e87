"""Where a text comes from, and which addresses and hashes lead there. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

THREAD = (
    r"https?://(?:www\.|api\.)?[\w.-]+/(?:repos/)?[\w.-]+/[\w.-]+/(?:-/)?"
    r"(?:issues?|pulls?|merge_requests|commits?|compare|discussions|security/advisories)/"
    r"[^\s)>\]\"'`]*[\w/]"
)
"""The page of an issue, change or commit on any forge."""
_FORGES = r"(?:www\.|api\.|codeload\.)?github\.com|raw\.githubusercontent\.com|(?:www\.)?gitlab\.com|bitbucket\.org|codeberg\.org"
_INDEXES = r"(?:test\.)?pypi\.(?:org|python\.org)"
ADDRESS = re.compile(
    r"(?:(?:git\+)?(?:https?|ssh|git)://(?:git@)?|(?<![\w.@])git@(?=[\w.-]+:)"
    rf"|(?<![\w/.@:-])(?=(?:{_FORGES}|{_INDEXES})/))"
    r"[^\s<>\"'`\]\[{}|\\^]+[\w/#=&]"
)
"""An address with a scheme, in git's short form, or of a well-known host without a scheme."""
_HASH = r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b"
_GIT_COMMAND = re.compile(r"\bgit[ \t]+(?:-\S+[ \t]+\S+[ \t]+)?[a-z][a-z-]+[ \t][^\n]*")
"""A hash in a git command is a commit, of whatever repository."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a text comes from, as far as known."""

    name: str = ""
    """`owner/name`, or a package's name."""
    commits: tuple[str, ...] = ()
    """Hashes that must not be revealed: the fix and its base."""
    decorators: frozenset[str] = field(default=frozenset())
    """Words after `@` in the project's code: they are not persons."""


UNKNOWN = Upstream()


def upstream_at(url: str) -> Upstream:
    """What a task's source address says of the project: the page of an issue, commit or release, or `path@commit`."""
    where = _without_scheme(url)
    if index := re.match(r"[^/]+/(?:project|pypi|simple)/([\w.-]+)", where):
        return Upstream(index.group(1))
    project = re.match(r"[^/]+/(?:repos/)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:[/?#]|$)", where)
    commit = re.search(rf"(?:/commits?/|@)({_HASH})", where)
    return Upstream(project.group(1) if project and "://" in url else "", (commit.group(1),) if commit else ())


def leads_to(address: str, upstream: Upstream) -> bool:
    """Whether an address belongs to the project, or is anybody's thread, change or commit."""
    where = _without_scheme(address)
    if re.match(THREAD, f"https://{where}"):
        return True
    if not upstream.name:
        return False
    owner, _, last = upstream.name.casefold().rpartition("/")
    name = re.escape(last)
    # For a package's name without an owner: the repository has that name on most forges, whoever owns it.
    project = rf"{re.escape(owner)}/{name}" if owner else rf"[\w.-]+/{name}"
    package = re.sub(r"(?:\\[-_.]|[-_.])+", "[-_.]+", name)
    pattern = rf"[^/]+/(?:repos/)?{project}(?:\.git)?(?:[@/?#]|$)|(?:{_INDEXES})/(?:project|pypi|simple)/{package}(?:[/?#]|$)"
    return re.match(pattern, where.casefold()) is not None


def hashes_in_code(text: str, upstream: Upstream) -> Iterator[re.Match[str]]:
    """Hashes of the fix and its base, and any hashes in git commands."""
    commands = [m.span() for m in _GIT_COMMAND.finditer(text)]
    for m in re.finditer(r"\b[0-9a-f]{7,40}\b", text):
        in_command = re.fullmatch(_HASH, m.group()) and any(start <= m.start() < end for start, end in commands)
        if in_command or any(c.startswith(m.group()) for c in upstream.commits):
            yield m


def _without_scheme(address: str) -> str:
    """The address without its scheme; git's `host:path` as `host/path`."""
    where = re.sub(r"^(?:git\+)?\w+://", "", address)
    return re.sub(r"^([^/:]+):(?!\d+(?:/|$))", r"\1/", where.removeprefix("git@"))
