"""Which programs no task can be about, whether or not a box would contain them. Tables with reasons; must not run anything.

Commands are looked for where the shell starts them, so words in comments, strings and file names do not count. What destroys a machine is
looked for in the whole program but its comments, since other languages start commands by strings.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

from task_builders.questions import commands, python_code

Signs = Mapping[str, tuple[str, ...]]
"""Reason → patterns. No pattern backtracks over a long text."""

DESTROYS = "it destroys the machine"
FORKS = "it is a fork bomb"
ENDLESS = "it does not end by itself"
RIGHTS = "it asks for a password or another user's rights"
NETWORK = "it needs the network"
PERSON = "it waits for a person"
SERVICE = "it needs a display, a service or a heavy library"
CHANGES = "its output is not the same every time"
FOREIGN = "it is for another system"
REASONS = (DESTROYS, FORKS, RIGHTS, NETWORK, ENDLESS, PERSON, SERVICE, CHANGES, FOREIGN)
"""In the order in which they are given."""

_DISK = r"/dev/(?:sd|hd|vd|xvd|nvme|mmcblk|disk|mapper)"
_EVERYTHING = r"[\"']?(?:/|~|\$\{?HOME\b\}?)/?\*?[\"']?(?=[\s;|&)\"']|$)"
_LIBRARIES = "matplotlib|tkinter|pyplot|selenium|pyspark|tensorflow|torch|django"
ANYWHERE: Signs = {
    DESTROYS: (
        r"\bmkfs(?:\.\w+)?\s",
        rf"\bdd\s[^\n]{{0,200}}\bof=[\"']?{_DISK}",
        rf">\s*[\"']?{_DISK}",
        rf"(?<!\bgit )\brm\s(?=[^\n;|&]{{0,100}}\s?-(?:\w*[rR]|-recursive))(?:[^\s;|&]{{1,100}}\s+){{1,9}}{_EVERYTHING}",
    ),
    FORKS: (r"\bfork\s+while\s+fork\b",),
}
"""In programs of any kind."""
STARTED: Signs = {
    RIGHTS: ("sudo", "su", "passwd", "doas", r"read (?:.* )?-\w*s\w*"),
    NETWORK: (
        *("curl", "wget", r"ssh(?:-\w+)?", "scp", "sftp", "rsync", "ping", "nc", "telnet", "nslookup", "dig", "ftp"),
        "git (?:push|pull|fetch|clone|remote|ls-remote)",
        "(?:pip3?|npm|apt|apt-get|yum|brew|gem|cpan) install",
    ),
    ENDLESS: ("watch", r"tail (?:.* )?-(?:\w*[fF]\w*|-follow.*)", r"sleep (?:inf\w*|\d{3,}.*)"),
    PERSON: (r"vim?", "nano", "emacs", "less", "more", r"read (?:.* )?-\w*p\w*", r"select \w+ in"),
    SERVICE: ("docker", "kubectl", "systemctl", "service", "crontab", "tmux", "screen", "aws", "mysql", "psql"),
    CHANGES: ("shuf", "uuidgen", r"sort (?:.* )?-(?:\w*R\w*|-random-sort)", r"date(?!.* -(?:\w*[dfjr]|-date|-file|-reference))"),
    FOREIGN: ("pbcopy", "pbpaste", "osascript", "brew", "powershell", r"(?:Get|Set|Write|Select|ForEach)-\w+"),
}
"""In shell programs: the beginning of a command, with single spaces between its words."""
IN_SHELL: Signs = {CHANGES: (r"\$\{?RANDOM\b",)}
IN_PYTHON: Signs = {
    NETWORK: (
        r"^\s*(?:import|from)\s+(?:requests|urllib2|urllib\.request|socket|smtplib|paramiko)\b",
        r"\b(?:urlopen|urlretrieve)\b",
        r"\brequests\.(?:get|post)\b",
    ),
    PERSON: (r"(?<![.\w])(?:raw_)?input\s*\(",),
    SERVICE: (rf"^\s*(?:import|from)\s[^\n]*\b(?:{_LIBRARIES})\b", rf"\b(?:{_LIBRARIES})\.\w"),
    CHANGES: (r"\brandom\.\w", r"\buuid[14]\b"),
}
IN_AWK: Signs = {CHANGES: (r"\bsrand\s*\(",)}
"""Also in shell programs, which quote it."""
ROUND_AND_ROUND = re.compile(
    r"\bwhile\s+(?:true|:|\[\[?\s*1\s*\]\]?|True|1)\s*[;:\n]|\bwhile\s*\(+\s*(?:true|True|1)\s*\)|\buntil\s+false\b|\bfor\s*\(+\s*;\s*;\s*\)"
)
"""Loops forever, unless something in the loop leaves it."""
LEAVES = re.compile(r"\b(?:break|return|exit|raise|last|die)\b")
_FUNCTION = re.compile(r"(?:\bfunction\s+(?P<named>[^\s(){}]{1,80})\s*(?:\(\s*\)\s*)?|(?P<name>[^\s(){};|&]{1,80})\s*\(\s*\)\s*)[{(]")
_CALL = re.compile(r"(?P<name>[^\s{}();|&]+)[^{}();|&\n]*(?:[<>]&[^{}();|&\n]*)*(?P<after>\|[|&]?|&&?|)")
"""A command, by its first word, and what stands after it."""
RUNNERS = frozenset({"xargs", "timeout", "nice", "setsid", "stdbuf", "parallel"})
"""Commands that start the command in their words, after options and numbers."""
_NAME = re.compile(r"[a-z/][\w./-]*")
RUNS_NEXT = frozenset({"-exec", "-execdir", "-ok"})
"""Options of `find` before a command."""
SHELLS = frozenset({"bash", "sh", "dash", "eval"})
"""Commands of which a word is a program."""


def _any_of(signs: Signs, form: str = "{}") -> dict[str, re.Pattern[str]]:
    return {reason: re.compile(form.format("|".join(each)), re.MULTILINE) for reason, each in signs.items()}


_STARTED = _any_of(STARTED, "(?:{})(?= |$)")
_ANYWHERE, _SHELL, _PYTHON, _AWK = map(_any_of, (ANYWHERE, IN_SHELL, IN_PYTHON, IN_AWK))
_OF_KIND = {"shell": (_SHELL, _AWK), "python": (_PYTHON,), "awk": (_AWK,), "": (_SHELL, _PYTHON, _AWK)}


def unfit(text: str, kind: str = "") -> str:
    """Why a program cannot be a task, whatever else it does: the first reason that applies; empty if none does.

    `kind` is that of `programs.Program`; for code of an unknown kind all signs count.
    """
    code = _without_comments(text, kind)
    found = {reason for signs in (_ANYWHERE, *_OF_KIND.get(kind, ())) for reason, sign in signs.items() if sign.search(code)}
    if kind in ("shell", ""):
        found |= {reason for each in set(_started(code)) for reason, sign in _STARTED.items() if sign.match(each)}
        found |= {FORKS} if _calls_itself(code) else set()
    found |= {ENDLESS} if _never_leaves(code) else set()
    return next((reason for reason in REASONS if reason in found), "")


def _without_comments(text: str, kind: str) -> str:
    tree = python_code.tree_of(text) if kind == "python" else None
    return ast.unparse(tree) if tree else commands.COMMENT_LINE.sub("", text)


def _started(code: str) -> Iterator[str]:
    """Every command that the shell starts, as one line; also those that another command starts."""
    parsed = commands.parse(code)
    if parsed is None:
        parsed = tuple(each for line in code.splitlines() for each in commands.parse(line) or ())
    for each in parsed:
        words = [" ".join(word.split()) for word in each.words]
        yield " ".join((each.name, *words[1:]))
        starts = [n + 1 for n, word in enumerate(words) if word in RUNS_NEXT]
        starts += [n for n, word in enumerate(words) if n and _NAME.fullmatch(word)][:1] if each.name in RUNNERS else []
        yield from (" ".join(words[n:]) for n in starts)
        if SHELLS.intersection(words):
            yield from (line for word in each.words[1:] if " " in word for line in _started(word))


def _calls_itself(code: str) -> bool:
    """Whether a function pipes itself into itself or calls itself in the background."""
    pieces = [(match.start("name"), match["name"], match["after"]) for match in _CALL.finditer(code)]
    calls: dict[str, list[int]] = {}
    for (at, name, after), (_, following, _) in pairwise([*pieces, (0, "", "")]):
        if after == "&" or (after in ("|", "|&") and following == name):
            calls.setdefault(name, []).append(at)
    closed = _closed(code)
    functions = ((match["named"] or match["name"], match.end()) for match in _FUNCTION.finditer(code))
    return any(start <= at < closed.get(start - 1, len(code)) for name, start in functions for at in calls.get(name, ()))


def _closed(text: str) -> dict[int, int]:
    """Opening brackets → the brackets that close them, by position."""
    found: dict[int, int] = {}
    opened: dict[str, list[int]] = {"}": [], ")": []}
    for match in re.finditer(r"[{}()]", text):
        if match[0] in "{(":
            opened["}" if match[0] == "{" else ")"].append(match.start())
        elif opened[match[0]]:
            found[opened[match[0]].pop()] = match.start()
    return found


def _never_leaves(code: str) -> bool:
    left = max((match.start() for match in LEAVES.finditer(code)), default=-1)
    return any(match.start() > left for match in ROUND_AND_ROUND.finditer(code))
