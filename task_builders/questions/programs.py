"""Finds the programs in a block of code: takes prompts and transcripts apart and detects the language. Pure. Must not run anything.

Used for answers (solutions) and for questions (attempts).
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from task_builders.questions import commands, python_code, shell_words, unfit
from task_builders.questions.tools import INTERPRETED, tool

PROMPT = re.compile(r"^(?:\[?[\w.-]+@[\w.-]+[^$#%\n]{0,40}[$#%]|[\w~/.-]{0,20}\$|%)[ \t]+(?=\S)")
"""A shell prompt, with or without the user's name."""
CONTINUED = re.compile(r"^>[ \t]?")
PYTHON_PROMPT = re.compile(r"^(?:>>>>?|In \[\d+\]:)(?: |$)")
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
"""Language in the markup → kind. `lang-json` and the like are not programs."""
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
"""Patterns of stand-alone programs, as one would quote them on a command line. For jq also something must follow that data would not have.
"""
JQ_ONLY = re.compile(r"\||\bselect\s*\(|\bmap\s*\(|\.\[\]|_entries|\bdel\(|\breduce\b|\bdef \w+:|//|\|=")
PYTHON = re.compile(
    r"^(?:import \w|from [\w.]+ import |def \w+\(.*\)\s*(?:->.*)?:\s*(?:#.*)?$|class \w+.*:|for .+ in .+:|with open\("
    r"|print\s*\(|print [\"'\w]|if .+:$|\w+ = (?:open|pd|re|json)\b)",
    re.MULTILINE,
)
PERL = re.compile(r"^\s*(?:use (?:strict|warnings|JSON|Data)|my [$@%]\w+|while \(<|print \$|foreach my )", re.MULTILINE)
SQL = re.compile(r"^\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|WITH)\s", re.IGNORECASE)
MAX_CHARACTERS = 10_000
"""Longer blocks are not taken for programs: they answer no question about a few lines, and are slow to parse."""
MAX_LINES = 50
"""In longer commands, no output is searched below the command."""
FRAME = re.compile(r"^\s*(?:df\w*\b|\w+\s*=\s*df\w*|print\(df)[.\[= ]", re.MULTILINE)


NEVER_FIRST = frozenset("{ } then do done else elif fi esac ! [ . : : true false".split())  # noqa: SIM905 - a table for reading
"""Commands with which nobody begins a shell program, though other text begins so."""
LIKE_OTHERS = re.compile(
    r"\s*(?:for|if|while|with|import|from|print|set|test|date|find|sort|head|select|return|export|type)\b[^\n]*(?::\s*$|\w\s*=\s|\w\()"
    r"|\s*if \("
)
"""`for x in y:` is Python, `find(…)` some other language."""
ASSIGNS = re.compile(r"\s*(?:[A-Za-z_]\w*=(?:\$\(|[\"'`$\w(])|\w+\s*\(\)\s*\{?)")


@dataclass(frozen=True, slots=True)
class Program:
    """One program, and its output if it stands in a transcript."""

    kind: str
    """`shell`, `awk`, `sed`, `jq`, `perl`, `python`, `sql`."""
    text: str
    printed: str = ""
    """The text below it in the same block; empty if the block is not a transcript."""

    @property
    def unfit(self) -> str:
        """Why it cannot be a task, whatever it does; empty if there is no reason."""
        return unfit.unfit(self.text, self.kind)

    @property
    def commands(self) -> tuple[commands.Command, ...]:
        """The commands of a shell program; empty for other kinds."""
        return commands.parse(self.text) or () if self.kind == "shell" else ()

    @property
    def leaves(self) -> str:
        """The file that it changes or writes last; empty if there is none."""
        for command in reversed(self.commands):
            if command.writes:
                return command.writes[-1]
            if command.name in ("sed", "perl") and command.reads:
                return command.reads[-1]
            if command.name == "sponge":
                return command.words[-1]
        return ""

    @property
    def tools(self) -> tuple[str, ...]:
        """The programs that it starts, in order; `cat` last, since it only passes on data, and `bash` if there is no other."""
        if self.kind != "shell":
            return ({"sql": "sqlite3"}.get(self.kind, self.kind),)
        named = (c.name for c in self.commands)
        found = dict.fromkeys(name for name in named if (known := tool(name)) is None or known.transforms)
        return tuple(sorted(found, key=lambda name: name == "cat")) if found.keys() - {"cat"} else ("bash",)


def is_session(text: str) -> bool:
    """Whether it is a transcript: prompts and outputs."""
    lines = text.splitlines()
    prompts = sum(bool(PROMPT.match(line) or PYTHON_PROMPT.match(line)) for line in lines)
    return prompts > 0 and bool(PROMPT.match(lines[0]) or PYTHON_PROMPT.match(lines[0]) or prompts * 4 >= len(lines))


def parse(text: str, language: str = "") -> tuple[Program, ...]:
    """The programs of a block: several for a transcript with several prompts; none if it is not a program or too long."""
    if len(text) > MAX_CHARACTERS:
        return ()
    if is_session(text):
        return _of_session(text)
    kind = kind_of(text, language)
    if kind == "shell":
        return (_without_output(text),)
    if kind == "python" and python_code.tree_of(text) is None:
        modern = python_code.modern(text)
        return (Program(kind, modern),) if modern else _python_with_outputs(text)
    return (Program(kind, text),) if kind else ()


def kind_of(text: str, language: str = "") -> str:
    """The kind of a program without prompts; empty for data, prose and unknown languages."""
    if len(text) > MAX_CHARACTERS:
        return ""
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
    """Whether its first command is known, or it is shell syntax."""
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
    """Whether its first piece is a Python expression, whatever output follows."""
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
    """Whether it is JSON, markup or the like. Data may look like a program, since both begin with braces and brackets."""
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
    """Each prompt's command, with all its lines, and the output up to the next prompt."""
    found: list[Program] = []
    lines = text.splitlines()
    if any(PYTHON_PROMPT.match(line) for line in lines):
        return (_of_python_session(lines),)
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


def _of_python_session(lines: Sequence[str]) -> Program:
    """What stands behind the prompts, with lines that only indentation or an open bracket continues; the output of the last one."""
    code: list[str] = []
    shown: list[str] = []
    for line in lines:
        begins = PYTHON_PROMPT.match(line)
        if begins or PYTHON_CONTINUED.match(line) or (code and not shown and python_code.goes_on(code[-1], line)):
            text = PYTHON_PROMPT.sub("", PYTHON_CONTINUED.sub("", line))
            code = [*code, text] if begins or not code else [*code[:-1], f"{code[-1]}\n{text}"]
            shown = []
        else:
            shown.append(PYTHON_OUT.sub("", line))
    text = "\n".join(code) + "\n"
    return Program("python", python_code.modern(text) or text, "".join(f"{line}\n" for line in shown))


def unmarked(text: str) -> str:
    """The output without the `> ` that some people put before each line."""
    lines = text.splitlines(keepends=True)
    return "".join(line[2:] for line in lines) if all(line.startswith("> ") for line in lines) else text


def _without_output(text: str) -> Program:
    """A command with its output right below it, without a prompt: the output starts at the first line that can only be data."""
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
    """Pieces of Python 3 with the output of each below it: one program per piece, which includes all pieces before it. The whole text if
    there is no such piece.
    """
    found = [Program("python", code, printed) for code, printed in python_code.split(text)]
    return tuple(together(found[: n + 1]) for n in range(len(found))) or (Program("python", text),)


def together(pieces: Sequence[Program]) -> Program:
    """Pieces of Python as one program, whose output is that of the last piece."""
    return replace(pieces[-1], text=python_code.together([each.text for each in pieces]))


def with_functions(found: Sequence[Program]) -> list[Program]:
    """The programs, each of the shell behind the earlier ones that define the functions it calls."""
    defined = [shell_words.functions(each.text)[0] if each.kind == "shell" else frozenset[str]() for each in found]
    whole: list[Program] = []
    for at, each in enumerate(found):
        called = {command.name for command in each.commands}
        before = [earlier.text for earlier, names in zip(found[:at], defined, strict=False) if called & names]
        whole.append(replace(each, text="".join([*before, each.text])))
    return whole


def _goes_on(command: list[str], line: str) -> bool:
    """Whether a line continues the command before it: the shell would still wait for input, or it shows the second prompt."""
    said = "\n".join(command)
    waits = said.rstrip().endswith(("\\", "|", "&&", "||")) or commands.parse(said) is None
    return waits or (bool(CONTINUED.match(line)) and bool(re.search(r"\b(?:do|then|\{)\s*$", said)))
