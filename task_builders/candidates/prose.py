"""Splits text for people into prose, which may be rewritten, and code, which may not. Pure.

Knows Markdown's fences, indented code and HTML comments, and as much reStructuredText as commit messages and changelogs use.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_FENCE = re.compile(r"^(?P<indent>[ \t>]*)(?P<mark>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_FENCED_OR_COMMENT = re.compile(
    r"(?P<code>^[ \t>]*(?P<mark>`{3,}(?!`)|~{3,}(?!~))[^\n]*\n.*?(?:^[ \t>]*(?P=mark)[`~]*[ \t]*$|\Z))|<!--.*?(?:-->|\Z)",
    re.DOTALL | re.MULTILINE,
)
_INLINE_CODE = re.compile(r"(``.+?``|`[^`\n]+`)")
INDENT_OF_CODE = 4


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that are all code or all prose."""

    text: str
    is_code: bool


def without_comments(text: str) -> str:
    """The text without HTML comments, except those in fenced code."""
    return _FENCED_OR_COMMENT.sub(lambda m: m.group() if m.group("code") else "", text)


def with_closed_fence(text: str) -> str:
    """The text with its last fence closed: texts that were cut off may end inside code."""
    last = parts(text)[-1:]
    opened = _FENCE.match(last[0].text.split("\n", 1)[0]) if last and last[0].is_code else None
    if opened is None:
        return text
    lines = last[0].text.rstrip().split("\n")
    closed = _FENCE.match(lines[-1]) if len(lines) > 1 else None
    if closed is not None and closed.group("mark").startswith(opened.group("mark")):
        return text
    return f"{text.rstrip()}\n{opened.group('indent')}{opened.group('mark')}"


def parts(text: str) -> list[Part]:
    """The parts of the text; their concatenation is the text. An unclosed fence runs to the end."""
    found: list[Part] = []
    run: list[str] = []
    is_code = False
    fence = ""
    blank_before = True
    in_list = False

    def flush() -> None:
        if run:
            found.append(Part("".join(run), is_code))
            run.clear()

    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line.rstrip("\r\n"))
        if fence:
            run.append(line)
            if mark and mark.group("mark").startswith(fence) and not mark.group("info").strip():
                flush()
                fence, is_code = "", False
            continue
        if mark:
            flush()
            fence, is_code = mark.group("mark"), True
            run.append(line)
            continue
        stripped = line.strip()
        indented = len(line) - len(line.lstrip(" ")) >= INDENT_OF_CODE or line.startswith("\t")
        in_list = bool(re.match(r"\s*(?:[-*+]|\d+[.)])\s", line)) or (in_list and (indented or not stripped))
        # After a blank line, four spaces begin code; in a list they only continue an item.
        code_now = bool(stripped) and indented and not in_list and (is_code or blank_before)
        if code_now != is_code and (stripped or not is_code):
            flush()
            is_code = code_now
        run.append(line)
        blank_before = not stripped
    flush()
    return found


def map_blocks(text: str, prose: Callable[[str], str], code: Callable[[str], str]) -> str:
    """The text with its prose and its code blocks rewritten."""
    return "".join(code(p.text) if p.is_code else prose(p.text) for p in parts(text))


def map_inline(piece: str, prose: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A piece of prose with its words and its inline code rewritten. `prose` gets the whole piece, with a mark for each piece of code."""
    kept: list[str] = []

    def put_aside(m: re.Match[str]) -> str:
        kept.append(code(m.group()))
        return f"\ue000{len(kept) - 1}\ue001"

    words = prose(_INLINE_CODE.sub(put_aside, re.sub("[\ue000\ue001]", "", piece)))
    return re.sub("\ue000(\\d+)\ue001", lambda m: kept[int(m.group(1))], words)
