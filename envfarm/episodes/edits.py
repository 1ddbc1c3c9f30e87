"""The file tools' edits of bytes, and how files are shown. Pure; `tools.py` fetches and stores the bytes."""

from typing import NamedTuple

LINE_CHARS = 2000
"""Longer lines are shown cut, since one line of a minified file would fill the whole observation."""
CONTEXT_LINES = 4
SHOWN_PLACES = 8


class Edit(NamedTuple):
    """A file after a replacement."""

    content: bytes
    line: int
    """Where the replaced text begins, from 1."""
    new_lines: int
    """How many lines the new text spans."""


class EditError(ValueError):
    """A replacement that is not possible as requested. The message is for the model."""


def replace_once(content: bytes, old: str, new: str) -> Edit:
    """Replace the only occurrence of `old`. Other bytes stay unchanged, whatever their encoding.

    If every line of the file ends with CRLF, an LF in `old` and `new` means CRLF, since models do not see the difference. Raises
    `EditError` if `old` is absent, occurs more than once, or equals `new`.
    """
    if not old:
        raise EditError("`old` is empty and the file is not: give the text to replace")
    before, after = _encoded(old, "old"), _encoded(new, "new")
    if _is_crlf(content):
        before, after = _to_crlf(before), _to_crlf(after)
    if before == after:
        raise EditError("`old` and `new` are the same")
    places = _places(content, before)
    if not places:
        raise EditError(_absent(content, before))
    if len(places) > 1:
        lines = ", ".join(str(_line_at(content, p)) for p in places[:SHOWN_PLACES]) + (", ..." if len(places) > SHOWN_PLACES else "")
        raise EditError(f"`old` occurs {len(places)} times (at lines {lines}): add lines around it until it occurs once")
    at = places[0]
    changed = content[:at] + after + content[at + len(before) :]
    return Edit(changed, _line_at(content, at), after.count(b"\n") + 1)


def is_binary(content: bytes) -> bool:
    """Whether there is a NUL near the beginning (git's rule)."""
    return b"\0" in content[:8000]


def numbered(content: bytes, first: int) -> str:
    """Lines as the model sees them, numbered from `first`. Bytes that are not UTF-8 become U+FFFD."""
    text = content.decode(errors="replace")
    lines = text.removesuffix("\n").split("\n")
    return "\n".join(f"{n:6}\t{_shown(line)}" for n, line in enumerate(lines, first))


def around(edit: Edit) -> str:
    """The edited lines with some context, numbered."""
    lines = edit.content.split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    first = max(edit.line - CONTEXT_LINES, 1)
    last = min(edit.line + edit.new_lines - 1 + CONTEXT_LINES, len(lines))
    return numbered(b"\n".join(lines[first - 1 : last]), first) if lines else ""


def remarks(content: bytes) -> tuple[str, ...]:
    """Facts that a model needs for an edit but cannot see in the numbered lines."""
    found = []
    if _is_crlf(content):
        found.append("lines end with CRLF")
    try:
        content.decode()
    except UnicodeDecodeError as e:
        # A part of a file may end within a character; then only earlier bytes are invalid.
        if e.reason != "unexpected end of data":
            found.append("not UTF-8: bytes that cannot be shown appear as \N{REPLACEMENT CHARACTER}")
    return tuple(found)


def _shown(line: str) -> str:
    line = line.removesuffix("\r")
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}[... {len(line) - LINE_CHARS} more characters]"


def _encoded(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as e:
        raise EditError(f"`{name}` has an invalid character (a lone surrogate at position {e.start})") from e


def _is_crlf(content: bytes) -> bool:
    ends = content.count(b"\n")
    return ends > 0 and content.count(b"\r\n") == ends


def _to_crlf(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _places(content: bytes, wanted: bytes) -> list[int]:
    """Where `wanted` occurs. Overlapping occurrences count, since either could be meant."""
    places = []
    at = content.find(wanted)
    while at >= 0:
        places.append(at)
        at = content.find(wanted, at + 1)
    return places


def _line_at(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1


def _absent(content: bytes, wanted: bytes) -> str:
    first = next((line.strip() for line in wanted.split(b"\n") if line.strip()), b"")
    lines = [n for n, line in enumerate(content.split(b"\n"), 1) if first and line.strip() == first]
    if not lines:
        return "`old` does not occur in the file"
    near = ", ".join(map(str, lines[:SHOWN_PLACES]))
    return f"`old` does not occur in the file; its first line does, with other white space around it (line {near}): compare the indentation"
