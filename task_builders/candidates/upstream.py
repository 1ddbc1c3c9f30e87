"""Where a text comes from, and which addresses and hashes lead there. Pure; called by `identifiers`, and by the ids gate for tasks whose
record is not at hand.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

THREAD = (
    r"https?://(?:www\.|api\.)?[\w.-]+/(?:repos/)?[\w.-]+/[\w.-]+/(?:-/)?"
    r"(?:issues?|pulls?|merge_requests|commits?|compare|discussions|security/advisories)/"
    r"[^\s)>\]\"'`]*[\w/]"
)
"""An issue's, a change's or a commit's page on any forge."""
_FORGES = r"(?:www\.|api\.|codeload\.)?github\.com|raw\.githubusercontent\.com|(?:www\.)?gitlab\.com|bitbucket\.org|codeberg\.org"
_INDEXES = r"(?:test\.)?pypi\.(?:org|python\.org)"
ADDRESS = re.compile(
    r"(?:(?:git\+)?(?:https?|ssh|git)://(?:git@)?|(?<![\w.@])git@(?=[\w.-]+:)"
    rf"|(?<![\w/.@:-])(?=(?:{_FORGES}|{_INDEXES})/))"
    r"[^\s<>\"'`\]\[{}|\\^]+[\w/#=&]"
)
"""An address with a scheme, git's short form of one, or a well-known host's without."""
_HASH = r"\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{7,40}\b"
_GIT_COMMAND = re.compile(r"\bgit[ \t]+(?:-\S+[ \t]+\S+[ \t]+)?[a-z][a-z-]+[ \t][^\n]*")
"""What stands in a command of git is a commit, whosever the repository is."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a text comes from, as far as it is known."""

    name: str = ""
    """`owner/name`, or a package's name."""
    commits: tuple[str, ...] = ()
    """Hashes that must not be told: the fix and its base."""
    decorators: frozenset[str] = field(default=frozenset())
    """Words that stand after `@` in the project's code: no persons."""


UNKNOWN = Upstream()


def upstream_at(url: str) -> Upstream:
    """What the address of a task's source says of the project: an issue's, a commit's or a release's page, `path@commit`."""
    where = _without_scheme(url)
    if index := re.match(r"[^/]+/(?:project|pypi|simple)/([\w.-]+)", where):
        return Upstream(index.group(1))
    project = re.match(r"[^/]+/(?:repos/)?([\w.-]+/[\w.-]+?)(?:\.git)?(?:[/?#]|$)", where)
    commit = re.search(rf"(?:/commits?/|@)({_HASH})", where)
    return Upstream(project.group(1) if project and "://" in url else "", (commit.group(1),) if commit else ())


def leads_to(address: str, upstream: Upstream) -> bool:
    """Whether an address is of the project, or of anybody's thread, change or commit."""
    where = _without_scheme(address)
    if re.match(THREAD, f"https://{where}"):
        return True
    if not upstream.name:
        return False
    owner, _, last = upstream.name.casefold().rpartition("/")
    name = re.escape(last)
    # A package's name alone: its repository bears it on most forges, whoever the owner is.
    project = rf"{re.escape(owner)}/{name}" if owner else rf"[\w.-]+/{name}"
    package = re.sub(r"(?:\\[-_.]|[-_.])+", "[-_.]+", name)
    pattern = rf"[^/]+/(?:repos/)?{project}(?:\.git)?(?:[@/?#]|$)|(?:{_INDEXES})/(?:project|pypi|simple)/{package}(?:[/?#]|$)"
    return re.match(pattern, where.casefold()) is not None


def hashes_in_code(text: str, upstream: Upstream) -> Iterator[re.Match[str]]:
    """Hashes of the fix and its base, and whatever commands of git name."""
    commands = [m.span() for m in _GIT_COMMAND.finditer(text)]
    for m in re.finditer(r"\b[0-9a-f]{7,40}\b", text):
        in_command = re.fullmatch(_HASH, m.group()) and any(start <= m.start() < end for start, end in commands)
        if in_command or any(c.startswith(m.group()) for c in upstream.commits):
            yield m


def _without_scheme(address: str) -> str:
    """Host, path and the rest; git's `host:path` as `host/path`."""
    where = re.sub(r"^(?:git\+)?\w+://", "", address)
    return re.sub(r"^([^/:]+):(?!\d+(?:/|$))", r"\1/", where.removeprefix("git@"))
