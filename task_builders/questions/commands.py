"""Parses shell text into commands and the files that they read and write. Pure.

It covers the part of the shell that one-liners use: quotes, pipes, lists, redirections, and the presence of here-documents. If it cannot
parse a text it says so, and guesses nothing.
"""

import re
import shlex
from dataclasses import dataclass

from task_builders.questions.tools import Tool, tool

SEPARATORS = re.compile(r"^[|&;()\n]+$")
SUBSTITUTIONS = frozenset({"<(", ">("})
LEADERS = frozenset("then do else elif if while until ! { time exec env command nohup".split())  # noqa: SIM905 - a table for reading
"""Words after which a command begins."""
_COMMENT_LINE = re.compile(r"^[ \t]*#[^\n]*\n?", re.MULTILINE)
"""A comment of the shell or of a program quoted in it. It has no effect, but may contain an unclosed quote."""
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*\+?=(?!=)")
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


def parse(text: str) -> tuple[Command, ...] | None:
    """The commands of a text, in order; None if the shell would reject it (unclosed quotes)."""
    joined = re.sub(r"\\\n[ \t]*", " ", _COMMENT_LINE.sub("", text))
    lexer = shlex.shlex(joined, posix=True, punctuation_chars="|&;()<>\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError:
        return None
    return _Parse(tokens).commands()


class _Parse:
    """One pass over the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._found: list[Command] = []
        self._outer: list[tuple[list[str], list[str], list[str], bool]] = []
        self._words: list[str] = []
        self._reads: list[str] = []
        self._writes: list[str] = []
        self._piped = False

    def commands(self) -> tuple[Command, ...]:
        """All commands; those in `<(…)` come before the command that contains them."""
        for at, token in enumerate([*self._tokens, "\n"]):
            if token in SUBSTITUTIONS:
                self._outer.append((self._words, self._reads, self._writes, self._piped))
                self._start(piped=False)
            elif SEPARATORS.match(token):
                self._end()
                if token.startswith(")") and self._outer:
                    self._words, self._reads, self._writes, self._piped = self._outer.pop()
                    if token[1:]:  # the line may end right after it
                        self._end()
                        self._start(piped=False)
                else:
                    self._start(piped=token in ("|", "|&"))
            elif token.startswith((">", "<")) or _redirects(self._tokens[at - 1] if at else ""):
                _redirect(self._tokens, at, self._reads, self._writes)
            else:
                self._words.append(token)
        return tuple(self._found)

    def _start(self, *, piped: bool) -> None:
        self._words, self._reads, self._writes, self._piped = [], [], [], piped

    def _end(self) -> None:
        if self._words:
            self._found.append(_command(self._words, self._reads, self._writes, piped=self._piped))


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


def _command(words: list[str], reads: list[str], writes: list[str], *, piped: bool) -> Command:
    while len(words) > 1 and (words[0] in LEADERS or _ASSIGNMENT.match(words[0])):
        words = words[1:]
    if _ASSIGNMENT.match(words[0]):
        words = ["set"]
    known = tool(words[0])
    operands = _operands(words[1:], known) if known is not None and known.takes_files else ()
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
