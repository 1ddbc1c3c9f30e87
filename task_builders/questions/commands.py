"""Parses shell text into commands and the files that they read and write. Pure.

It covers the part of the shell that one-liners use: quotes, pipes, lists, redirections, substitutions and functions; what a here-document
says is not looked at. If it cannot parse a text it says so, and guesses nothing.
"""

import re
import shlex
from dataclasses import dataclass
from functools import lru_cache

from task_builders.questions import shell_words
from task_builders.questions.tools import Tool, tool

SIGNS = re.compile(r"<\(|>\(|<<<|<<-?|>>|>\||[<>]&|&>|\|\||\|&|&&|;;|[|&;()<>\n]")
"""The signs that may stand in a row without blanks."""
SEPARATORS = re.compile(r"^[|&;()\n]+$")
PIPES = frozenset({"|", "|&"})
MOVES = frozenset({"mv", "cp"})
SUBSTITUTIONS = frozenset({"<(", ">("})
LEADERS = frozenset("then do else elif if while until ! { time exec env command nohup".split())  # noqa: SIM905 - a table for reading
"""Words after which a command begins."""
COMMENT_LINE = re.compile(r"^[ \t]*#[^\n]*\n?", re.MULTILINE)
"""A comment of the shell or of a program quoted in it. It has no effect, but may contain an unclosed quote."""
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*\+?=(?!=)")
_NO_WORD = re.compile(r"[|&;()<>\n]+")
_NO_FILE = re.compile(r"^$|^-$|^/dev/|[$`*?{}()<>|\n\"']|^\d+$|^[^\w.~/]")
"""Words that are not the name of a single file: numbers, patterns, variables, quoted programs."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a pipeline or list."""

    words: tuple[str, ...]
    reads: tuple[str, ...] = ()
    """Files that it reads, in order."""
    writes: tuple[str, ...] = ()
    piped: bool = False
    """Whether its standard input is another command's output."""

    @property
    def name(self) -> str:
        """The command's name, without its directory."""
        return self.words[0].rpartition("/")[2]


@lru_cache(maxsize=512)
def parse(text: str) -> tuple[Command, ...] | None:
    """The commands of a text, in order, those of a substitution before the command that contains it; None if the shell would reject the
    text or wait for more (unclosed quotes, substitutions, here-documents).
    """
    functions, plain = shell_words.functions(re.sub(r"\\\n[ \t]*", " ", COMMENT_LINE.sub("", text)))
    try:
        return _Parse(functions).commands(shell_words.without_here_documents(plain))
    except (ValueError, RecursionError):
        return None


def _tokens(text: str) -> list[str]:
    """Words and signs. Raises `ValueError` for an unclosed quote."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|&;()<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    return [sign for token in lexer for sign in (SIGNS.findall(token) if _NO_WORD.fullmatch(token) else [token])]


class _Parse:
    """One pass over the tokens."""

    def __init__(self, functions: frozenset[str]) -> None:
        self._functions = functions
        self._found: list[Command] = []
        self._inner: list[tuple[Command, ...]] = []
        self._outer: list[tuple[list[str], list[str], list[str], bool] | None] = []
        self._words: list[str] = []
        self._reads: list[str] = []
        self._writes: list[str] = []
        self._piped = False

    def commands(self, text: str) -> tuple[Command, ...]:
        """All commands; those in `<(…)` and in substitutions come before the command that contains them. Raises `ValueError`."""
        plain, bodies = shell_words.expanded(text)
        self._inner = [_Parse(self._functions).commands(body) for body in bodies]
        tokens = _tokens(plain)
        for at, sign in enumerate([*tokens, "\n"]):
            if sign in SUBSTITUTIONS:
                self._outer.append((self._words, self._reads, self._writes, self._piped))
                self._start(piped=False)
            elif self._piped and not self._words and sign == "\n":
                continue
            elif sign == ")" and not self._outer:
                self._start(piped=False)  # a pattern of `case`
            elif SEPARATORS.match(sign):
                self._end()
                outer = self._outer.pop() if sign == ")" and self._outer else None
                if outer is not None:
                    self._words, self._reads, self._writes, self._piped = outer
                else:
                    self._start(piped=sign in PIPES)
                if sign == "(":
                    self._outer.append(None)
            elif sign.startswith((">", "<")) or _redirects(tokens[at - 1] if at else ""):
                _redirect(tokens, at, self._reads, self._writes)
            else:
                self._words.append(sign)
        return tuple(self._found)

    def _start(self, *, piped: bool) -> None:
        self._words, self._reads, self._writes, self._piped = [], [], [], piped

    def _end(self) -> None:
        numbers = [int(match[1]) for word in self._words for match in shell_words.SUBSTITUTED.finditer(word)]
        self._found += [command for n in numbers if n < len(self._inner) for command in self._inner[n]]
        if self._words or self._reads:
            words = self._words or ["cat"]  # `$(<file)`
            self._found.append(_command(words, self._reads, self._writes, self._functions, piped=self._piped))


def _redirects(token: str) -> bool:
    return token.startswith((">", "<")) and token not in SUBSTITUTIONS


def _redirect(tokens: list[str], at: int, reads: list[str], writes: list[str]) -> None:
    """`<` is followed by a file that is read, `>` by one that is written; `<<<`, `<<` and `>&` name no file."""
    if tokens[at].startswith((">", "<")):
        return
    sign, word = tokens[at - 1], tokens[at]
    if sign == "<" and not _NO_FILE.search(word):
        reads.append(word)
    elif sign in (">", ">>", ">|") and not _NO_FILE.search(word):
        writes.append(word)


def _command(words: list[str], reads: list[str], writes: list[str], functions: frozenset[str], *, piped: bool) -> Command:
    while len(words) > 1 and (words[0] in LEADERS or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if _ASSIGNMENT.match(words[0]):
        words = ["set"]
    if words[0] in functions:  # it may read the files that it is given
        words = ["set", *words[1:]]
        reads = [*(word for word in words[1:] if not _NO_FILE.search(word) and "." in word), *reads]
    known = tool(words[0])
    operands = _operands(words[1:], known) if known is not None and known.takes_files else ()
    if words[0] in MOVES and len(words) > 2 and not _NO_FILE.search(words[-1]):  # noqa: PLR2004 - from where, and to where
        writes = [*writes, words[-1]]
    return Command(tuple(words), (*operands, *reads), tuple(writes), piped)


def _operands(words: list[str], known: Tool) -> tuple[str, ...]:
    """The words that are files, by the tool's entry in the table."""
    script_is_due, longs = known.script_first, dict(known.long_values)
    files: list[str] = []
    skip = 0
    for word in words:
        if skip:
            skip -= 1
        elif word.startswith("--"):
            skip = longs.get(word, 0)
        elif word.startswith("-") and len(word) > 1:
            letter = next((c for c in word[1:] if c in known.value_options + known.script_options), "")
            if letter and letter in known.script_options:
                script_is_due = False
            if letter and word.endswith(letter):
                skip = 1
        elif script_is_due:
            script_is_due = False
        elif not _NO_FILE.search(word) and not _ASSIGNMENT.match(word):
            files.append(word)
    return tuple(files)
