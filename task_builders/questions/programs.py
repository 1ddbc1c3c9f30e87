"""The programs that a block of code holds: prompts and transcripts taken apart, and in which language each is. Pure.

Called for answers (what solves it) and for questions (what is an attempt). Must not run anything.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from task_builders.questions import commands, python_code
from task_builders.questions.tools import INTERPRETED, tool, unfit

PROMPT = re.compile(r"^(?:\[?[\w.-]+@[\w.-]+[^$#%\n]{0,40}[$#%]|[\w~/.-]{0,20}\$|%)[ \t]+(?=\S)")
"""A shell's, with or without the user's name before it."""
CONTINUED = re.compile(r"^>[ \t]?")
PYTHON_PROMPT = re.compile(r"^(?:>>>|In \[\d+\]:)(?: |$)")
PYTHON_CONTINUED = re.compile(r"^(?:\.\.\.| *\.\.\.:)(?: |$)")
PYTHON_OUT = re.compile(r"^Out\[\d+\]:[ ]?")
LANGUAGES = {
    "bash": "shell",
    "sh": "shell",
    "shell": "shell",
    "zsh": "shell",
    "awk": "awk",
    "perl": "perl",
    "py": "python",
    "python": "python",
}
"""What markup says → kind. `lang-json` and the like are no programs."""
BARE: dict[str, re.Pattern[str]] = {
    "awk": re.compile(
        r"^\s*(?:BEGIN\s*\{|END\s*\{|\{\s*(?:print|if|for|\w+\[|\$\d|\w+\s*=|gsub|sub|split)|NR\s*==|FNR|NF\b|\$\d+\s*[~!=<>]"
        r"|!\w+\[\$|/[^/\n]+/\s*\{)"
    ),
    "sed": re.compile(r"^\s*(?:\d+,?\d*|/[^/\n]+/)?\s*s([/|#,@])[^\n]*\1[^\n]*\1[gpiIe0-9]*\s*$"),
    "jq": re.compile(
        r"^\s*(?:\.\[?[\w\"\]]*|\[\s*\.|\{\s*\(?\.|map\s*\(|to_entries|with_entries|reduce |def \w+|del\(|group_by|paths|walk\()"
    ),
}
"""Programs that stand alone, as one would quote them on a command line. jq's only where something follows that data would not have."""
JQ_ONLY = re.compile(r"\||\bselect\s*\(|\bmap\s*\(|\.\[\]|_entries|\bdel\(|\breduce\b|\bdef \w+:|//|\|=")
PYTHON = re.compile(
    r"^(?:import \w|from [\w.]+ import |def \w+\(.*\)\s*(?:->.*)?:\s*(?:#.*)?$|class \w+.*:|for .+ in .+:|with open\("
    r"|print\s*\(|print [\"'\w]|if .+:$|\w+ = (?:open|pd|re|json)\b)",
    re.MULTILINE,
)
PERL = re.compile(r"^\s*(?:use (?:strict|warnings|JSON|Data)|my [$@%]\w+|while \(<|print \$|foreach my )", re.MULTILINE)
SQL = re.compile(r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|WITH)\s", re.IGNORECASE)
MAX_CHARACTERS = 10_000
"""Of a block that is taken for a program: a longer one is no answer to a question about some lines, and takes long to read."""
MAX_LINES = 50
"""Of a command, below which it is looked for what it printed."""
FRAME = re.compile(r"^\s*(?:df\w*\b|\w+\s*=\s*df\w*|print\(df)[.\[= ]", re.MULTILINE)


NEVER_FIRST = frozenset("{ } then do done else elif fi esac ! [ . : : true false".split())  # noqa: SIM905 - a table for reading
"""With which no one begins a program for the shell, though others begin so."""
LIKE_OTHERS = re.compile(
    r"\s*(?:for|if|while|with|import|from|print|set|test|date|find|sort|head|select|return|export|type)\b[^\n]*(?::\s*$|\w\s*=\s|\w\()"
    r"|\s*if \("
)
"""`for x in y:` is Python's, `find(…)` any other language's."""
ASSIGNS = re.compile(r"\s*(?:[A-Za-z_]\w*=(?:\$\(|[\"'`$\w(])|\w+\s*\(\)\s*\{?)")


@dataclass(frozen=True, slots=True)
class Program:
    """One program, and what its own transcript says that it prints."""

    kind: str
    """`shell`, `awk`, `sed`, `jq`, `perl`, `python`, `sql`."""
    text: str
    printed: str = ""
    """What stood below it in the same block; empty where the block is no transcript."""

    @property
    def unfit(self) -> str:
        """Why it can be no task, whatever it does; empty where nothing speaks against it."""
        return unfit(self.text)

    @property
    def commands(self) -> tuple[commands.Command, ...]:
        """The commands of a shell program; none of any other."""
        return commands.parse(self.text) or () if self.kind == "shell" else ()

    @property
    def tools(self) -> tuple[str, ...]:
        """Which programs it starts, in order; `cat` last, since it only brings the data, and `bash` where there is no other."""
        if self.kind != "shell":
            return ({"sql": "sqlite3"}.get(self.kind, self.kind),)
        named = (c.name for c in self.commands)
        found = dict.fromkeys(name for name in named if (known := tool(name)) is None or known.transforms)
        return tuple(sorted(found, key=lambda name: name == "cat")) if found.keys() - {"cat"} else ("bash",)


def is_session(text: str) -> bool:
    """Whether it is a transcript: prompts, and what was printed."""
    lines = text.splitlines()
    prompts = sum(bool(PROMPT.match(line) or PYTHON_PROMPT.match(line)) for line in lines)
    return prompts > 0 and bool(PROMPT.match(lines[0]) or PYTHON_PROMPT.match(lines[0]) or prompts * 4 >= len(lines))


def parse(text: str, language: str = "") -> tuple[Program, ...]:
    """The programs of a block: several where it is a transcript with several prompts, none where it is none, or too long for one."""
    if len(text) > MAX_CHARACTERS:
        return ()
    if is_session(text):
        return _of_session(text)
    kind = kind_of(text, language)
    if kind == "shell":
        return (_without_output(text),)
    if kind == "python" and python_code.tree_of(text) is None:
        return _python_with_outputs(text)
    return (Program(kind, text),) if kind else ()


def kind_of(text: str, language: str = "") -> str:
    """The kind of a program without prompts; empty where it is data, prose or a language that is not known here."""
    first = text.lstrip().partition("\n")[0]
    if shebang := re.match(r"#!\s*(?:/\S*/)?(?:env\s+)?(\w+)", first):
        return INTERPRETED.get(shebang[1], "")
    code = "\n".join(line for line in text.splitlines() if not re.match(r"\s*(?:#|//|--\s)", line))
    if not code.strip() or is_data(code):
        return ""
    if LANGUAGES.get(language) in {"awk", "perl"}:
        return LANGUAGES[language]
    return next((kind for kind, holds in KINDS if holds(code)), "")


def _is_shell(code: str) -> bool:
    """Whether its first command is one that is known, or it is the shell's own syntax."""
    found = commands.parse(code) or ()
    if not found or code.split(maxsplit=1)[0] in NEVER_FIRST or (ASSIGNS.match(code) and _begins_as_python(code)):
        return False
    first = found[0]
    if tool(first.name) is not None:
        return not LIKE_OTHERS.match(code.split("\n", 1)[0])
    if re.fullmatch(r"[\w./-]+", first.name) and any(c.piped and tool(c.name) is not None for c in found[1:2]):
        return True
    return bool(ASSIGNS.match(code)) and not PYTHON.search(code)


def _begins_as_python(code: str) -> bool:
    """Whether its first piece is an expression of Python, whatever it printed stands below."""
    return python_code.is_expression(code) or any(python_code.is_expression(piece) for piece, _ in python_code.split(code)[:1])


def _is_bare(kind: str) -> Callable[[str], bool]:
    return lambda code: bool(BARE[kind].match(code))


KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("shell", _is_shell),
    ("awk", _is_bare("awk")),
    ("sed", _is_bare("sed")),
    ("jq", lambda code: _is_bare("jq")(code) and bool(JQ_ONLY.search(code)) and not PYTHON.search(code)),
    ("python", lambda code: bool(PYTHON.search(code) or FRAME.search(code))),
    ("perl", lambda code: bool(PERL.search(code))),
    ("sql", lambda code: bool(SQL.match(code))),
    ("python", python_code.is_expression),
)
"""Kinds in the order in which they are tried."""


def is_data(text: str) -> bool:
    """Whether it is JSON, markup or the like: data may look like a program, since braces and brackets begin both."""
    start = text.lstrip()
    if start.startswith("<") and re.match(r"<[?!/]?\w", start):
        return True
    if not start.startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return bool(re.match(r"[\[{]+\s*(?:\"[^\"\n]*\"|'[^'\n]*')\s*[:,\]]|[\[{]\s*[\[{]?\s*\"", start)) and not JQ_ONLY.search(
            re.sub(r'"[^"]*"', "", text)
        )
    return True


def _of_session(text: str) -> tuple[Program, ...]:
    """Each prompt's command, over as many lines as it takes, and what follows up to the next prompt."""
    found: list[Program] = []
    lines = text.splitlines()
    if any(PYTHON_PROMPT.match(line) for line in lines):
        code = [PYTHON_PROMPT.sub("", PYTHON_CONTINUED.sub("", x)) for x in lines if PYTHON_PROMPT.match(x) or PYTHON_CONTINUED.match(x)]
        last = max(n for n, line in enumerate(lines) if PYTHON_PROMPT.match(line) or PYTHON_CONTINUED.match(line))
        shown = "".join(f"{PYTHON_OUT.sub('', line)}\n" for line in lines[last + 1 :])
        return (Program("python", "\n".join(code) + "\n", shown),)
    command: list[str] = []
    printed: list[str] = []
    for line in [*lines, "$ :"]:
        if match := PROMPT.match(line):
            if command:
                found.append(Program("shell", "\n".join(command) + "\n", "".join(f"{p}\n" for p in printed)))
            command, printed = [line[match.end() :]], []
        elif command and not printed and _goes_on(command, line):
            command.append(CONTINUED.sub("", line))
        elif command:
            printed.append(line)
    return tuple(found)


def unmarked(text: str) -> str:
    """Output without the `> ` that some put before each of its lines."""
    lines = text.splitlines(keepends=True)
    return "".join(line[2:] for line in lines) if all(line.startswith("> ") for line in lines) else text


def _without_output(text: str) -> Program:
    """A command with what it prints right below it, without a prompt: lines from the first on that only data could be."""
    lines = text.splitlines(keepends=True)
    for at in range(1, min(len(lines), MAX_LINES)):
        head = commands.parse("".join(lines[:at]))
        if not head or lines[at - 1].rstrip().endswith(("\\", "|", "{", "&&", "do", "then")) or any(tool(c.name) is None for c in head):
            continue
        rest = commands.parse("".join(lines[at:]))
        if rest is None or (rest and all(tool(c.name) is None for c in rest)):
            return Program("shell", "".join(lines[:at]), unmarked("".join(lines[at:])))
    return Program("shell", text)


def _python_with_outputs(text: str) -> tuple[Program, ...]:
    """Pieces of Python 3 with what each printed below it: one program for each piece, with all that stands before it. The whole where
    there is no such piece.
    """
    found = [Program("python", code, printed) for code, printed in python_code.split(text)]
    return tuple(together(found[: n + 1]) for n in range(len(found))) or (Program("python", text),)


def together(pieces: Sequence[Program]) -> Program:
    """Pieces of Python as one program, that prints what the last one does."""
    return replace(pieces[-1], text=python_code.together([each.text for each in pieces]))


def _goes_on(command: list[str], line: str) -> bool:
    """Whether a line belongs to the command before it: the shell would still wait, or it shows its second prompt."""
    said = "\n".join(command)
    waits = said.rstrip().endswith(("\\", "|", "&&", "||")) or commands.parse(said) is None
    return waits or (bool(CONTINUED.match(line)) and bool(re.search(r"\b(?:do|then|\{)\s*$", said)))
