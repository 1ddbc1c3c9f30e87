"""Splits a unified diff in git's format into files, without loss. Pure.

Joining the files' texts restores the diff byte for byte, and `git apply` accepts any selection of them. Only line feeds end lines: carriage
returns and form feeds are content. Must not interpret what a change means.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

FILE_HEADER = "diff --git "
_HUNK = re.compile(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}
_SUBMODULE_MODE = "160000"


class PatchError(ValueError):
    """The text is not a diff in git's format. Names the line."""


@dataclass(frozen=True, slots=True)
class FilePatch:
    """A diff's part for one file. Paths are None on the side where the file does not exist."""

    text: str
    old_path: str | None
    new_path: str | None
    is_binary: bool = False
    is_submodule: bool = False
    added: tuple[str, ...] = ()
    """Added lines, without the sign and the line feed."""
    removed: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The file's name after the change, or before it if the file is removed."""
        path = self.new_path if self.new_path is not None else self.old_path
        if path is None:
            raise AssertionError("a file without a name")  # `parse` makes none
        return path

    @property
    def is_removed(self) -> bool:
        """Whether the change removes the file."""
        return self.new_path is None

    @property
    def renamed_from(self) -> str | None:
        """Its previous name, if the change moved it."""
        moved = self.new_path is not None and self.old_path is not None and self.old_path != self.new_path
        return self.old_path if moved and "\nrename from " in self.text else None


def parse(patch: str) -> tuple[FilePatch, ...]:
    """The files of a diff, in order. Text before the first file (a mail's header) is ignored, as `git apply` does.

    Raises:
        PatchError: it is not a diff in git's format.
    """
    lines = patch.split("\n")
    tail = lines.pop()
    whole = [line + "\n" for line in lines] + ([tail] if tail else [])
    start = next((n for n, line in enumerate(whole) if line.startswith(FILE_HEADER)), None)
    if start is None:
        if any(line.startswith(("@@ ", "--- ")) for line in whole):
            raise PatchError("line 1: a diff without `diff --git` headers")
        return ()
    files = []
    while start < len(whole):
        reader = _Reader(whole, start)
        files.append(reader.read())
        start = reader.at
    return tuple(files)


def join(files: Iterable[FilePatch]) -> str:
    """The diff of these files."""
    return "".join(f.text for f in files)


def unquote(name: str) -> str:
    """Undo git's C-style quoting of a name; other names stay as they are.

    Raises:
        PatchError: the quoting is broken.
    """
    if not name.startswith('"'):
        return name
    if len(name) < 2 or not name.endswith('"'):  # noqa: PLR2004 - two quotes
        raise PatchError(f"a name with broken quotes: {name}")
    out = bytearray()
    for piece in re.finditer(r"\\([0-3][0-7]{2})|\\(.)|([^\\]+)|(\\)", name[1:-1], re.DOTALL):
        octal, letter, plain, _ = piece.groups()
        if octal:
            out.append(int(octal, 8))
        elif plain:
            out += plain.encode(errors="surrogateescape")
        elif letter in _ESCAPES:
            out.append(_ESCAPES[letter])
        else:
            raise PatchError(f"a name with broken quotes: {name}")
    return out.decode(errors="surrogateescape")


class _Reader:
    """Reads one file's part and counts the lines of its hunks, so that content is never taken for a header."""

    def __init__(self, lines: list[str], start: int) -> None:
        self.lines, self.start, self.at = lines, start, start + 1
        self.old: str | None = None
        self.new: str | None = None
        self.names_known = False
        self.created = self.deleted = self.binary = self.submodule = False
        self.added: list[str] = []
        self.removed: list[str] = []

    def read(self) -> FilePatch:
        """Read the file at the current position."""
        while self.at < len(self.lines) and not self.lines[self.at].startswith(FILE_HEADER):
            line = self.lines[self.at]
            hunk = _HUNK.match(line)
            self.at += 1
            if hunk:
                self._hunk(int(hunk.group(1) or 1), int(hunk.group(2) or 1))
            elif line.startswith("GIT binary patch"):
                self.binary = True
                self._binary()
            else:
                self._header(line.removesuffix("\n"))
        if not self.names_known:
            self.old = self.new = _same_name(self.lines[self.start].removesuffix("\n"), self.start)
        return FilePatch(
            text="".join(self.lines[self.start : self.at]),
            old_path=None if self.created else self.old,
            new_path=None if self.deleted else self.new,
            is_binary=self.binary,
            is_submodule=self.submodule,
            added=tuple(self.added),
            removed=tuple(self.removed),
        )

    def _header(self, line: str) -> None:
        key, _, value = line.partition(" ")
        match key:
            case "new" | "deleted" | "index" | "old":
                self.created |= line.startswith("new file mode ")
                self.deleted |= line.startswith("deleted file mode ")
                self.submodule |= line.endswith(" " + _SUBMODULE_MODE)
            case "---" if value != "/dev/null":
                self.old, self.names_known = _side(value, "a/", self.at), True
                self.new = self.new if self.new is not None else self.old
            case "+++" if value != "/dev/null":
                self.new, self.names_known = _side(value, "b/", self.at), True
                self.old = self.old if self.old is not None else self.new
            case "rename" | "copy" if value.startswith("from "):
                self.old, self.names_known = unquote(value.removeprefix("from ")), True
            case "rename" | "copy" if value.startswith("to "):
                self.new, self.names_known = unquote(value.removeprefix("to ")), True
            case "Binary":
                self.binary = True

    def _hunk(self, old: int, new: int) -> None:
        while old > 0 or new > 0:
            if self.at >= len(self.lines):
                raise PatchError(f"line {self.at}: a hunk is incomplete")
            line = self.lines[self.at]
            self.at += 1
            match line[:1]:
                case "+":
                    new -= 1
                    self.added.append(line[1:].removesuffix("\n"))
                case "-":
                    old -= 1
                    self.removed.append(line[1:].removesuffix("\n"))
                case " " | "\n":  # some mailers strip the space of an empty line
                    old -= 1
                    new -= 1
                case "\\":
                    pass
                case _:
                    raise PatchError(f"line {self.at}: neither a context line nor a changed line: {line.rstrip()[:80]!r}")
        if old or new:
            raise PatchError(f"line {self.at}: a hunk is longer than its header says")

    def _binary(self) -> None:
        """`literal N` or `delta N`, lines of base 85, an empty line; once for each direction."""
        while self.at < len(self.lines) and not self.lines[self.at].startswith(FILE_HEADER):
            self.at += 1


def _side(value: str, prefix: str, line: int) -> str:
    """A name after `---` or `+++`. Git puts a tab after names with spaces."""
    name = unquote(value if value.startswith('"') and value.endswith('"') else value.split("\t", 1)[0])
    if not name.startswith(prefix):
        raise PatchError(f"line {line}: a name without the prefix `{prefix}`: {name}")
    return name.removeprefix(prefix)


def _same_name(header: str, line: int) -> str:
    """The name in `diff --git a/x b/x`: both are equal unless another header gives different ones."""
    both = header.removeprefix(FILE_HEADER)
    if both.startswith('"'):
        quoted = re.match(r'"(?:[^"\\]|\\.)*"', both)
        if quoted:
            return _side(quoted.group(), "a/", line)
    middle = len(both) // 2
    first, second = both[:middle], both[middle + 1 :]
    if both[middle : middle + 1] == " " and first[:2] == "a/" and second[:2] == "b/" and first[2:] == second[2:]:
        return first[2:]
    raise PatchError(f"line {line + 1}: the file name is ambiguous: {header}")
