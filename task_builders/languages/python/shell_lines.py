"""What lines of CI scripts, tox commands and Makefiles install and test. Pure: nothing is run or expanded."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from task_builders.languages.project import ProjectTree
from task_builders.languages.python.requirement_lines import Requested, local_extras, plain, read_file

MAX_LINE = 4000
GROUP_OPTIONS = frozenset({"--group", "--only-group", "--with", "--only", "-G", "--dev-group"})
EXTRA_OPTIONS = frozenset({"--extra", "-E", "--extras"})


@dataclass
class Script:
    """What a script installs and tests."""

    requested: Requested = field(default_factory=Requested)
    tests: list[list[str]] = field(default_factory=list)
    """Arguments of each run of pytest (of unittest: `--unittest` comes first)."""
    apt: list[str] = field(default_factory=list)


def commands(text: str) -> list[list[str]]:
    """A script as lists of words: continued lines joined, split at `&&`, `;` and `|`, without comments."""
    joined = re.sub(r"\\\r?\n", " ", text)
    found = []
    for line in (each for each in joined.splitlines() if len(each) <= MAX_LINE):
        for part in re.split(r"&&|\|\||;(?!;)|(?<!\|)\|(?!\|)", _without_markers(line)):
            words = _words(part.strip().lstrip("-@"))
            while words and re.match(r"[A-Za-z_][A-Za-z0-9_]*=", words[0]):
                words.pop(0)
            if words:
                found.append([w.replace("\0", ";") for w in words])
    return found


def read(lines: Iterable[str], tree: ProjectTree) -> Script:
    """Everything that the lines of a script install and test."""
    script = Script()
    for text in lines:
        for words in commands(text):
            _read_command(words, tree, script)
    return script


def pytest_arguments(words: list[str]) -> list[str] | None:
    """The arguments of a test run, whatever precedes it; None if the command is not a test run."""
    for i, word in enumerate(words):
        if re.fullmatch(r"(?:.*/)?(?:pytest|py\.test)", word) and (i == 0 or words[i - 1] not in {"install", "-U", "--upgrade", "show"}):
            if "install" in words[:i] or "lock" in words[:i]:
                return None
            return words[i + 1 :]
        if word in {"unittest", "unittest2"} and i and words[i - 1] == "-m":
            return ["--unittest", *words[i + 1 :]]
    return None


def _read_command(words: list[str], tree: ProjectTree, script: Script) -> None:
    arguments = pytest_arguments(words)
    if arguments is not None:
        script.tests.append(arguments)
    if "apt-get" in words or "apt" in words:
        script.apt.extend(_apt(words))
        return
    script.requested.add(_installs(words, tree))


def _apt(words: list[str]) -> list[str]:
    if "install" not in words:
        return []
    return [w for w in words[words.index("install") + 1 :] if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", w)]


def _installs(words: list[str], tree: ProjectTree) -> Requested:
    if "install" in words:
        at = words.index("install")
        before = words[:at]
        if any(re.fullmatch(r"(?:.*/)?pip[\d.]*", w) for w in before):
            return _pip(words[at + 1 :], tree)
        if before and before[-1] in {"poetry", "pdm"}:
            return _options(words[at + 1 :])
    if words[:1] == ["uv"] and len(words) > 1 and words[1] in {"sync", "run"}:
        return _options(words[2:])
    return Requested()


def _options(words: list[str]) -> Requested:
    requested = Requested()
    for i, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in GROUP_OPTIONS | EXTRA_OPTIONS:
            target = requested.groups if option in GROUP_OPTIONS else requested.extras
            target.extend(re.split(r"[,\s]+", value or (words[i + 1] if i + 1 < len(words) else "")))
        elif option == "--all-extras":
            requested.extras.append("*")
        elif option == "--all-groups":
            requested.groups.append("*")
    return requested


def _pip(words: list[str], tree: ProjectTree) -> Requested:
    requested, queue = Requested(), list(words)
    while queue:
        word = queue.pop(0)
        option, _, value = word.partition("=")
        if option in {"-r", "--requirement", "-c", "--constraint", "--group"}:
            path = (value if word.startswith("--") and value else queue.pop(0) if queue else "").removeprefix("./").split("/./")[-1]
            path = re.sub(r"^\{toxinidir\}/", "", path)
            if option == "--group":
                requested.groups.append(path)
            elif tree.read(path):
                inner = read_file(tree, path)
                requested.add(inner if option in {"-r", "--requirement"} else Requested(constraints=inner.requirements))
        elif word.startswith("-r") and tree.read(word[2:]):
            requested.add(read_file(tree, word[2:]))
        elif word in {"-e", "--editable"} or not word.startswith("-"):
            text = queue.pop(0) if word in {"-e", "--editable"} and queue else word
            extras = local_extras(text)
            if extras is not None:
                requested.extras.extend(extras)
            elif not text.startswith((".", "/", "$", "{", "-")) and (found := plain(text)):
                requested.requirements.append(found)
        elif word in {
            "-i",
            "--index-url",
            "--extra-index-url",
            "-f",
            "--find-links",
            "-t",
            "--target",
            "--progress-bar",
            "--no-binary",
            "--only-binary",
        }:
            queue[:1] = []
    return requested


def _without_markers(line: str) -> str:
    """Mask semicolons inside quotes: they belong to a requirement's marker, not to the shell."""
    return re.sub(r"(['\"])(?:(?!\1).)*\1", lambda m: re.sub(r";", "\0", m.group(0)), line)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()
