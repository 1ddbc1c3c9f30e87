"""A tiny shell for simulated boxes: enough for the protocol's conformance checks and small scripts of actions.

`echo cat cd pwd exit export kill mkdir rm sleep true false :`, redirections, `;` `&&` `||`, quotes, `$NAME` and `$$`. Anything else is a
program that is not found, or a syntax error. Time passes when a run yields.
"""

import posixpath
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from envfarm.testing.boxd_simulator.tree import Refused, Tree

Steps = Generator[float, None, int]
"""Yields seconds to wait before it continues; returns the exit status."""
NOT_FOUND = 127
UNREADABLE = 2
_TOKEN = re.compile(
    r"""[ \t]*(?:
        (?P<operator>&&|\|\||[;\n])
      | (?P<redirection>[12]?>>?)
      | (?P<word>(?:'[^']*' | "(?:[^"\\`]|\\.)*" | \\. | [^\s;&|<>'"\\`()])+)
    )""",
    re.VERBOSE | re.DOTALL,
)
_PIECE = re.compile(r"""'(?P<plain>[^']*)'|"(?P<quoted>(?:[^"\\]|\\.)*)"|\\(?P<escaped>.)|(?P<bare>[^'"\\]+)""", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(\$))")
_ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)


class Exited(Exception):  # noqa: N818 - a state
    """The shell exits with a status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Signalled(Exception):  # noqa: N818 - a state
    """The shell is ended by a signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@dataclass(slots=True)
class Shell:
    """Where a line runs, and the state kept between lines."""

    tree: Tree
    cwd: str = "/"
    variables: dict[str, str] = field(default_factory=dict)
    pid: int = 1
    stdin: bytes = b""

    def path(self, name: str) -> str:
        """A name as an absolute path."""
        return posixpath.normpath(posixpath.join(self.cwd, name))


@dataclass(frozen=True, slots=True)
class _Simple:
    """A command with its arguments, before expansion; `after` is the operator before it."""

    after: str
    words: tuple[str, ...]
    redirections: tuple[tuple[str, str], ...]


Out = Callable[[bytes], None]


def run_line(shell: Shell, line: str, stdout: Out, stderr: Out) -> Steps:
    """Run a line. Raises `Exited` and `Signalled`."""
    try:
        commands = _parsed(line)
    except ValueError as e:
        stderr(f"sh: {e}\n".encode())
        return UNREADABLE
    status = 0
    for command in commands:
        if (command.after == "&&" and status) or (command.after == "||" and not status):
            continue
        argv = [_expanded(word, shell) for word in command.words]
        status = yield from _run_redirected(shell, argv, command, stdout, stderr)
    return status


def run_argv(shell: Shell, argv: Sequence[str], stdout: Out, stderr: Out) -> Steps:
    """Run one command with its arguments; `/bin/sh -c LINE` runs a line."""
    if len(argv) >= 3 and posixpath.basename(argv[0]) in {"sh", "bash"} and argv[1] == "-c":
        return (yield from run_line(shell, argv[2], stdout, stderr))
    return (yield from _run(shell, list(argv), stdout, stderr))


def _run_redirected(shell: Shell, argv: list[str], command: _Simple, stdout: Out, stderr: Out) -> Steps:
    sinks = {"1": stdout, "2": stderr}
    kept: list[tuple[str, bool, bytearray]] = []
    for operator, name in command.redirections:
        stream = operator[0] if operator[0] in "12" else "1"
        held = bytearray()
        sinks[stream] = held.extend
        if (target := shell.path(_expanded(name, shell))) != "/dev/null":
            kept.append((target, operator.endswith(">>"), held))
    status = yield from _run(shell, argv, sinks["1"], sinks["2"])
    for target, append, held in kept:
        try:
            shell.tree.write(target, bytes(held), append=append)
        except Refused as e:
            stderr(f"sh: {e.message}\n".encode())
            status = 1
    return status


def _run(shell: Shell, argv: list[str], stdout: Out, stderr: Out) -> Steps:  # noqa: PLR0911 - a word a line
    name, args = posixpath.basename(argv[0]), argv[1:]
    match name:
        case "sleep":
            yield float(args[0])
            return 0
        case "exit":
            raise Exited(int(args[0]) if args else 0)
        case "kill":
            return _kill(shell, args)
        case "true" | ":" | "ulimit":
            return 0
        case "false":
            return 1
        case "echo":
            stdout(" ".join(args).encode() + b"\n")
            return 0
        case "pwd":
            stdout(shell.cwd.encode() + b"\n")
            return 0
        case "cat":
            return _cat(shell, args, stdout, stderr)
        case "cd" | "export" | "mkdir" | "rm":
            return _change(shell, name, args, stderr)
    if (assigned := _ASSIGNMENT.fullmatch(argv[0])) and not args:
        shell.variables[assigned[1]] = assigned[2]
        return 0
    stderr(f"sh: {argv[0]}: not found\n".encode())
    return NOT_FOUND


def _kill(shell: Shell, args: Sequence[str]) -> int:
    if args[-1] == str(shell.pid):
        raise Signalled(int(args[0].lstrip("-")) if len(args) > 1 else 15)
    return 1


def _cat(shell: Shell, args: Sequence[str], stdout: Out, stderr: Out) -> int:
    if not args:
        stdout(shell.stdin)
    for arg in args:
        content = shell.tree.read(shell.path(arg))
        if content is None:
            stderr(f"cat: {arg}: No such file or directory\n".encode())
            return 1
        stdout(content)
    return 0


def _change(shell: Shell, name: str, args: Sequence[str], stderr: Out) -> int:
    paths = [shell.path(arg) for arg in args if not arg.startswith("-")]
    if name == "export":
        for arg in args:
            key, _, value = arg.partition("=")
            shell.variables[key] = value
        return 0
    if name == "cd":
        if shell.tree.is_dir(paths[0]):
            shell.cwd = paths[0]
            return 0
        stderr(f"sh: cd: {args[0]}: No such file or directory\n".encode())
        return 1
    for path in paths:
        if name == "mkdir":
            shell.tree.make_dirs(path)
        elif not shell.tree.remove(path):
            stderr(f"rm: {path}: No such file or directory\n".encode())
            return 1
    return 0


@lru_cache(maxsize=4096)
def _parsed(line: str) -> tuple[_Simple, ...]:
    commands: list[_Simple] = []
    words: list[str] = []
    redirections: list[tuple[str, str]] = []
    after, at = ";", 0
    line = line.rstrip()

    def end(operator: str) -> None:
        nonlocal after, words, redirections
        if words or redirections:
            commands.append(_Simple(after, tuple(words or [":"]), tuple(redirections)))
        after, words, redirections = operator, [], []

    while at < len(line):
        found = _TOKEN.match(line, at)
        if found is None:
            raise ValueError(f"not in this shell's words: {line[at : at + 40]!r}")
        at = found.end()
        if found["operator"]:
            end(found["operator"])
        elif found["redirection"]:
            target = _TOKEN.match(line, at)
            if target is None or not target["word"]:
                raise ValueError("a redirection to nothing")
            at = target.end()
            redirections.append((found["redirection"], target["word"]))
        else:
            words.append(found["word"])
    end(";")
    return tuple(commands)


def _expanded(word: str, shell: Shell) -> str:
    if word.isalnum():
        return word

    def value(found: re.Match[str]) -> str:
        return str(shell.pid) if found[3] else shell.variables.get(found[1] or found[2], "")

    out = []
    for piece in _PIECE.finditer(word):
        if piece["plain"] is not None:
            out.append(piece["plain"])
        elif piece["quoted"] is not None:
            out.append(re.sub(r"\\([\"\\$])", r"\1", _VARIABLE.sub(value, piece["quoted"])))
        elif piece["escaped"] is not None:
            out.append(piece["escaped"])
        else:
            out.append(_VARIABLE.sub(value, piece["bare"]))
    return "".join(out)
