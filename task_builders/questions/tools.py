"""Known facts about the programs that answers use: which words are files, which package provides them. Data only.

An entry is here because answers commonly use the tool, not for the sake of a single post.
"""

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
