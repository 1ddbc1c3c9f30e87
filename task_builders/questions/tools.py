"""Known facts about the programs that answers use: which words are files, which package provides them, what no box can provide. Data only.

An entry is here because answers commonly use the tool, not for the sake of a single post.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tool:
    """A command."""

    package: str
    """The Debian package."""
    script_first: bool = False
    """Whether the first word that is not an option is a program or pattern."""
    script_options: str = ""
    """Letters of options that give the program; then every word is a file."""
    value_options: str = ""
    """Letters of options whose value is a separate word."""
    long_values: tuple[tuple[str, int], ...] = ()
    """Long options with the number of words after them."""
    takes_files: bool = True
    transforms: bool = True
    """Whether it turns text into text: then a task can be about it."""


_TEXT = Tool("coreutils")
_PLAIN = Tool("bash", takes_files=False, transforms=False)
_OF_THE_SHELL = """
    echo printf cd test [ [[ true false export declare local typeset set shopt read while for if until case do done then else elif fi esac
    { } ! function eval return exit exec mapfile readarray shift unset let trap source . : time env bash sh
    ls mv cp rm mkdir touch mktemp basename dirname date stat du chmod uname alias unalias break continue wait sleep
"""
"""Known words that transform nothing."""
TOOLS: dict[str, Tool] = {
    "awk": Tool("gawk", script_first=True, script_options="f", value_options="Fvf"),
    "sed": Tool("sed", script_first=True, script_options="ef", value_options="efl"),
    "grep": Tool("grep", script_first=True, script_options="ef", value_options="efmABC"),
    "perl": Tool("perl", script_options="eE", value_options="eEIM"),
    "jq": Tool(
        "jq",
        script_first=True,
        script_options="f",
        value_options="fL",
        long_values=(("--arg", 2), ("--argjson", 2), ("--argfile", 2), ("--slurpfile", 2), ("--rawfile", 2), ("--indent", 1)),
    ),
    "sort": Tool("coreutils", value_options="ktoST"),
    "cut": Tool("coreutils", value_options="dfcb"),
    "head": Tool("coreutils", value_options="nc"),
    "tail": Tool("coreutils", value_options="nc"),
    "paste": Tool("coreutils", value_options="d"),
    "join": Tool("coreutils", value_options="12tjoae"),
    "uniq": Tool("coreutils", value_options="fsw"),
    "fold": Tool("coreutils", value_options="w"),
    "fmt": Tool("coreutils", value_options="w"),
    "nl": Tool("coreutils", value_options="bdfhilnsvw"),
    "pr": Tool("coreutils", value_options="lwo"),
    "split": Tool("coreutils", value_options="lbna"),
    "csplit": Tool("coreutils", value_options="fnb"),
    "od": Tool("coreutils", value_options="AtNjw"),
    **dict.fromkeys(("cat", "tac", "wc", "comm", "expand", "unexpand", "tsort", "base64", "md5sum", "sha256sum", "cksum"), _TEXT),
    "tr": Tool("coreutils", takes_files=False),
    "seq": Tool("coreutils", takes_files=False),
    "shuf": Tool("coreutils", value_options="nie"),
    "rev": Tool("bsdextrautils"),
    "column": Tool("bsdextrautils", value_options="stcoN"),
    "hexdump": Tool("bsdextrautils", value_options="nse"),
    "xxd": Tool("xxd", value_options="lcsg"),
    "diff": Tool("diffutils", value_options="U"),
    "cmp": Tool("diffutils"),
    "bc": Tool("bc"),
    "datamash": Tool("datamash", takes_files=False),
    "xmllint": Tool("libxml2-utils", long_values=(("--xpath", 1),)),
    "xmlstarlet": Tool("xmlstarlet", takes_files=False),
    "jshon": Tool("jshon", takes_files=False),
    "gron": Tool("gron"),
    "mlr": Tool("miller", takes_files=False),
    "numfmt": Tool("coreutils", takes_files=False),
    "iconv": Tool("libc-bin", value_options="fto"),
    "sqlite3": Tool("sqlite3", takes_files=False),
    "python": Tool("python3", script_options="c", value_options="cm"),
    "ruby": Tool("ruby", script_options="e", value_options="e"),
    "xargs": Tool("findutils", takes_files=False),
    "find": Tool("findutils", takes_files=False, transforms=True),
    "git": Tool("git", takes_files=False),
    "make": Tool("make", takes_files=False),
    "tee": Tool("coreutils", transforms=False),
    "sponge": Tool("moreutils", takes_files=False, transforms=False),
    **dict.fromkeys(_OF_THE_SHELL.split(), _PLAIN),
}
ALIASES = {
    "gawk": "awk",
    "mawk": "awk",
    "nawk": "awk",
    "egrep": "grep",
    "fgrep": "grep",
    "zgrep": "grep",
    "gsed": "sed",
    "python3": "python",
}
"""Other names of a tool with the same syntax."""
INTERPRETED = {
    "python": "python",
    "python3": "python",
    "bash": "shell",
    "sh": "shell",
    "dash": "shell",
    "perl": "perl",
    "awk": "awk",
    "gawk": "awk",
}
"""The program in a first line (`#!`) → the kind of what follows."""


def tool(name: str) -> Tool | None:
    """The entry of a command, by any path or name."""
    word = name.rpartition("/")[2]
    return TOOLS.get(ALIASES.get(word, word))


def _started(*names: str) -> str:
    """A pattern for a command of this name where the shell would start one, not inside a path or word."""
    return rf"(?<![/\w.-])(?:{'|'.join(names)})(?=\s+[^\s=]|$)"


ENDLESS = "it does not end by itself"
ROUND_AND_ROUND = re.compile(r"\bwhile\s+(?:true|:|\[\s*1\s*\]|True|1)\s*[;:\n]")
"""Loops forever, unless something in the loop leaves it."""
LEAVES = re.compile(r"\b(?:break|return|exit|raise)\b")
UNFIT: dict[str, tuple[str, ...]] = {
    # A task must not be about these, whether or not a box would contain them. No pattern backtracks over a long text.
    "it destroys the machine": (
        r"\bmkfs(?:\.\w+)?\b",
        r"\bdd\b[^\n]{0,200}\bof=/dev/",
        r"\brm\s+-(?=\w*[rf])\w+\s+(?:--no-preserve-root\s+)?/(?:\s|\*|$)",
    ),
    "it is a fork bomb": (r":\s*\(\s*\)\s*\{[^}]{0,40}:\s*\|\s*:\s*&",),
    "it asks for a password or another user's rights": (_started("sudo", "su", "passwd", "doas"), r"\bread\s+-\w*s"),
    "it needs the network": (
        _started("curl", "wget", "ssh", "scp", "sftp", "rsync", "ping", "nc", "telnet", "nslookup", "dig", "ftp"),
        r"\bgit\s+(?:push|pull|fetch|clone|remote|ls-remote)\b",
        r"\b(?:pip3?|npm|apt(?:-get)?|yum|brew|gem|cpan)\s+install\b",
        r"\bimport\s+(?:requests|urllib|socket|smtplib|paramiko)\b",
        r"\burllib2?\b",
        r"\brequests\.(?:get|post)",
    ),
    ENDLESS: (
        r"\btail\s+-\w*[fF]\b",
        _started("watch"),
        r"\bsleep\s+(?:inf|\d{3,})",
    ),
    "it waits for a person": (
        r"\b(?:raw_)?input\s*\(",
        r"\bread\s+-p\b",
        r"\bselect\s+\w+\s+in\b",
        _started("vim?", "nano", "emacs", "less", "more"),
    ),
    "it needs a display, a service or a heavy library": (
        _started("docker", "kubectl", "systemctl", "service", "crontab", "tmux", "screen", "aws", "mysql", "psql"),
        r"\b(?:matplotlib|tkinter|pyplot|selenium|pyspark|tensorflow|torch|django)\b",
    ),
    "its output is not the same every time": (
        r"\$RANDOM\b",
        r"\bshuf\b",
        r"\bsort\s+-\w*R",
        r"\brandom\.",
        r"\bdate\s*(?:\+|\)|$)",
        r"\bsrand\(",
        r"\buuid",
    ),
    "it is for another system": (
        r"\b(?:Get-\w+|Set-\w+|Write-Host|Select-Object|ForEach-Object|powershell)\b",
        r"\b(?:pbcopy|osascript|brew)\b",
    ),
}
_PATTERNS = tuple((reason, re.compile("|".join(patterns), re.MULTILINE)) for reason, patterns in UNFIT.items())


def unfit(text: str) -> str:
    """Why a program cannot be a task, whatever else it does: the first reason that applies; empty if none does."""
    return next((reason for reason, pattern in _PATTERNS if pattern.search(text) or (reason == ENDLESS and _never_leaves(text))), "")


def _never_leaves(text: str) -> bool:
    left = max((match.start() for match in LEAVES.finditer(text)), default=-1)
    return any(match.start() > left for match in ROUND_AND_ROUND.finditer(text))
