"""Parses blocks of an answer that consist of local git commands only, with the role of each word. Pure.

A table says which words of a command are branches, commits or files. Commands outside the table (which need a remote, an editor, a person)
give no way. Must not depend on any particular repository.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from task_builders.questions.programs import PROMPT


class Role(StrEnum):
    """What a word stands for. If the word is a parameter, the value is also the name of the file that holds it."""

    NEW = "new-branch"
    BRANCH = "branch"
    UPSTREAM = "remote-branch"
    COMMIT = "commit"
    FILE = "file"
    MESSAGE = "message"
    LITERAL = ""


@dataclass(frozen=True, slots=True)
class Form:
    """A command with one of its options."""

    shapes: tuple[tuple[Role, ...], ...] = ((),)
    """Roles of its operands, one tuple per number of operands."""
    more: Role | None = None
    """Role of operands beyond the longest shape."""
    value: Role | None = None
    """Role of the option's value."""
    prints: bool = False
    """Whether it only prints information."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command."""

    text: str
    role: Role = Role.LITERAL
    before: str = ""
    """Text before the name in the same word: `--source=`."""
    behind: str = ""
    """Text after the name: `~1`."""
    placeholder: bool = False
    """Whether the answer leaves it open: `<name>`."""


@dataclass(frozen=True, slots=True)
class Way:
    """Commands that an answer gives together."""

    commands: tuple[tuple[Word, ...], ...]
    prints: bool
    """Whether it prints information and changes nothing."""


_N, _B, _U, _C, _F, _M, _L = Role.NEW, Role.BRANCH, Role.UPSTREAM, Role.COMMIT, Role.FILE, Role.MESSAGE, Role.LITERAL
_RENAMES = Form(((_N,), (_B, _N)))
_TELLS_OF_COMMITS = Form(((), (_C,), (_C, _C)), prints=True)
_FILES = Form(more=_F)
FORMS: dict[str, dict[str, Form]] = {
    "add": {"": _FILES},
    "branch": {
        "": Form(((), (_N,), (_N, _C))),
        "-m": _RENAMES,
        "-M": _RENAMES,
        "--move": _RENAMES,
        "-d": Form(more=_B),
        "-D": Form(more=_B),
        "-u": Form(((), (_B,)), value=_U),
        "--set-upstream-to": Form(((), (_B,)), value=_U),
        "--show-current": Form(prints=True),
        "--merged": Form(prints=True),
        "-a": Form(prints=True),
    },
    "checkout": {
        "": Form(((_B,),)),
        "-b": Form(((_N,), (_N, _C), (_N, _U))),
        "--track": Form(((_U,),)),
        "--": Form(((_B,),), more=_F),
    },
    "cherry-pick": {"": Form(((_C,),))},
    "clean": {"-f": Form()},
    "commit": {"-m": Form(value=_M), "-am": Form(value=_M)},
    "config": {"--get": Form(((_L,),), prints=True)},
    "describe": {"": _TELLS_OF_COMMITS},
    "diff": {"": _TELLS_OF_COMMITS},
    "diff-tree": {"": _TELLS_OF_COMMITS},
    "log": {"": _TELLS_OF_COMMITS},
    "ls-files": {"": Form(prints=True)},
    "merge": {"": Form(((_B,),))},
    "mv": {"": Form(((_F, _L),))},
    "reset": {
        "": Form(((_C,),), more=_F),
        "--hard": Form(((), (_C,))),
        "--soft": Form(((), (_C,))),
        "--mixed": Form(((), (_C,))),
    },
    "restore": {"": _FILES, "--staged": _FILES, "--source": Form(more=_F, value=_B), "-s": Form(more=_F, value=_B)},
    "rev-parse": {"": _TELLS_OF_COMMITS},
    "rm": {"": _FILES},
    "show": {"": _TELLS_OF_COMMITS},
    "stash": {"": Form(), "-u": Form()},
    "stash clear": {"": Form()},
    "stash drop": {"": Form(((), (_L,)))},
    "stash list": {"": Form(prints=True)},
    "stash push": {"": _FILES, "-m": Form(more=_F, value=_M)},
    "stash show": {"": Form(((), (_L,)), prints=True)},
    "switch": {"": Form(((_B,),)), "-c": Form(((_N,), (_N, _C)))},
    "tag": {"": Form(((_L,), (_L, _C)))},
    "update-index": {"--assume-unchanged": _FILES, "--skip-worktree": _FILES},
}
"""Command → option that selects its form → form. The first such option counts; other options are kept as they are."""
ASKING = frozenset({"-p", "--patch", "-i", "--interactive", "-e", "--edit"})
"""Options with which a changing command waits for a person."""
REMOTE = re.compile(r"(?:origin|upstream|remote)/\S+")
NOT_PLAIN = re.compile(r"[|;&`$*?{}]|^\d*[<>]|\.\.")
"""In a word: the shell would do more than start a command."""
PLACEHOLDER = re.compile(r"<([A-Za-z][\w -]*)>|\[([a-z][\w -]*)\]|\{([a-z][\w -]*)\}")
MARKED = re.compile(r"@@([\w-]+)@@")
REVISION = re.compile(r"(?:HEAD|@|ORIG_HEAD)(?:[~^]\d*|@\{\d+\})*$|stash@\{\d+\}$")
"""A commit given relative to the current one."""
HASH = re.compile(r"([0-9a-f]{6,40}|SHA-?\d?)((?:[~^]\d*)*)$")
OF_COMMITS = re.compile(r"commit|hash|sha|rev", re.IGNORECASE)
OF_FILES = re.compile(r"[\w-]\.\w{1,5}$|/|file|path", re.IGNORECASE)


def parse(text: str) -> Way | None:
    """The git commands of a block, without the outputs of a transcript; None if it contains anything else."""
    lines = text.splitlines()
    session = any(PROMPT.match(line) for line in lines)
    commands: list[tuple[Word, ...]] = []
    forms: list[Form] = []
    for line in lines:
        match = PROMPT.match(line)
        if session and not match:
            continue
        words = _words(line[match.end() :] if match else line)
        if words == []:
            continue
        found = _command(words) if words else None
        if found is None:
            return None
        commands.append(found[0])
        forms.append(found[1])
    return Way(tuple(commands), all(form.prints for form in forms)) if commands else None


def _words(line: str) -> list[str] | None:
    """The words of a line without its comment; None if they are not all plain words. Placeholders are marked."""
    marked = PLACEHOLDER.sub(lambda match: f"@@{_slug(next(filter(None, match.groups())))}@@", line)
    lexer = shlex.shlex(marked, posix=True)
    lexer.whitespace_split, lexer.commenters = True, "#"
    try:
        words = list(lexer)
    except ValueError:
        return None
    return None if any(NOT_PLAIN.search(re.sub(r"@\{\d+\}", "", word)) for word in words) else words


def _slug(words: str) -> str:
    return re.sub(r"[ _]+", "-", words.strip())


def _command(words: list[str]) -> tuple[tuple[Word, ...], Form] | None:
    if len(words) < 2 or words[0] != "git":  # noqa: PLR2004 - git and its command
        return None
    two = " ".join(words[1:3])
    verb = two if two in FORMS else words[1]
    forms, rest = FORMS.get(verb), words[1 + len(verb.split()) :]
    options = [word.partition("=")[0] for word in rest if word.startswith("-")]
    if forms is None or (key := next((each for each in options if each in forms), "")) not in forms:
        return None
    form = forms[key]
    if verb == "branch" and not rest:
        form = forms["-a"]
    if ASKING & set(rest) and not form.prints:
        return None
    operands = list(_operands(rest, key, form))
    roles = _roles(form, [word for word, is_operand in operands if is_operand])
    if roles is None:
        return None
    left = iter(roles)
    head = [Word(word) for word in ["git", *verb.split()]]
    return (*head, *(_word(word, next(left) if is_operand else Role.LITERAL, key, form) for word, is_operand in operands)), form


def _operands(rest: list[str], key: str, form: Form) -> Iterator[tuple[str, bool]]:
    """Each word and whether it is an operand. If the value of the form's option is a separate word, it has that option's role."""
    due = False
    for word in rest:
        if due:
            yield f"{key}={word}" if key.startswith("--") else f"{key} {word}", False
            due = False
        elif word == key and form.value is not None:
            due = True
        else:
            yield word, not word.startswith("-")


def _roles(form: Form, operands: list[str]) -> list[Role] | None:
    """The role of each operand; None if there are too few or too many."""
    fitting = [shape for shape in form.shapes if len(shape) == len(operands)]
    longest = max(form.shapes, key=len)
    if form.more is not None and len(operands) > len(longest):
        fitting = [(*longest, *(form.more for _ in operands[len(longest) :]))]
    if not fitting:
        return None
    ends_remote = bool(operands) and REMOTE.fullmatch(operands[-1])
    return list(next((s for s in fitting if (Role.UPSTREAM in s) == bool(ends_remote)), fitting[0]))


def _word(text: str, role: Role, key: str, form: Form) -> Word:
    before = ""
    if form.value is not None and key and re.match(rf"{re.escape(key)}[ =]", text):
        before, role = text[: len(key) + 1], form.value
        text = text[len(before) :]
    open_ = MARKED.search(text)
    if role is Role.LITERAL or REVISION.fullmatch(text) or text in (".", "--"):
        return Word(text, before=before)
    if role in (Role.BRANCH, Role.COMMIT):
        if REMOTE.fullmatch(text):
            return Word(text, Role.UPSTREAM, before)
        if match := HASH.match(text):
            return Word(match[1], Role.COMMIT, before, match[2])
        if open_ and OF_COMMITS.search(open_[1]):
            role = Role.COMMIT
        elif OF_FILES.search(open_[1] if open_ else text) and role is Role.COMMIT:
            role = Role.FILE
    return Word(open_[1] if open_ else text, role, before, placeholder=bool(open_))
