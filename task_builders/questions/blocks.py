"""A post's HTML to what a reader sees: prose and blocks of code, in order. Pure; called by whatever understands posts.

The parser is lexbor's, by HTML's own rules for broken markup: what never closes ends with the post. Must not judge what a block is.
"""

from dataclasses import dataclass

from selectolax.lexbor import LexborHTMLParser, LexborNode

PARAGRAPHS = frozenset("p li h1 h2 h3 h4 h5 h6 td th dt dd blockquote div".split())  # noqa: SIM905 - a table for reading
LEFT_OUT = frozenset({"script", "style", "kbd-hint"})
LEAVES = LEFT_OUT | {"-text", "pre", "code", "br"}


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph, an item of a list, a heading."""

    text: str
    """With single blanks; inline code stands between backquotes."""
    code: tuple[str, ...] = ()
    """Its pieces of inline code."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, as it stands there."""

    text: str
    """Lines as they were; no empty line at either end; one line break at the end."""
    language: str = ""
    """What the post's own markup says: `bash`, `py`; mostly nothing."""
    quoted: bool = False
    """Whether it stands in a quotation, which is how programs' messages are often shown."""


Piece = Prose | Block


def pieces(html: str) -> tuple[Piece, ...]:
    """The pieces of a post."""
    body = LexborHTMLParser(html).body
    if body is None:
        return ()
    gathered = _Gathered([], [], [])
    _walk(body, gathered)
    gathered.end_paragraph()
    return tuple(gathered.pieces)


@dataclass(slots=True)
class _Gathered:
    pieces: list[Piece]
    words: list[str]
    code: list[str]

    def end_paragraph(self) -> None:
        text = " ".join("".join(self.words).split())
        if text:
            self.pieces.append(Prose(text, tuple(self.code)))
        self.words, self.code = [], []


def _walk(body: LexborNode, gathered: _Gathered) -> None:
    """With a stack of its own: a post may be nested deeper than Python's."""
    open_nodes = [(body.iter(include_text=True), "", False)]
    while open_nodes:
        children, tag, quoted = open_nodes[-1]
        child = next(children, None)
        if child is None:
            open_nodes.pop()
        elif _is_leaf(child, gathered, quoted=quoted):
            continue
        else:
            tag = child.tag or ""
            open_nodes.append((child.iter(include_text=True), tag, quoted or tag == "blockquote"))
        if tag in PARAGRAPHS:  # one begins, or one has ended
            gathered.end_paragraph()


def _is_leaf(child: LexborNode, gathered: _Gathered, *, quoted: bool) -> bool:
    """Whether there is nothing to go into; then it was gathered."""
    tag = child.tag or ""
    if tag == "-text":
        gathered.words.append(child.text_content or "")
    elif tag == "pre":
        gathered.end_paragraph()
        if text := _trimmed(child.text(deep=True)):
            gathered.pieces.append(Block(text, _language(child), quoted))
    elif tag == "code":
        text = child.text(deep=True)
        gathered.words.append(f"`{text}`")
        gathered.code.append(text)
    elif tag == "br":
        gathered.words.append("\n")
    return tag in LEAVES


def _trimmed(text: str) -> str:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ").split("\n")
    while lines and not lines[0].strip():
        lines.pop(0)
    while lines and not lines[-1].strip():
        lines.pop()
    return "\n".join(lines) + "\n" if lines else ""


def _language(pre: LexborNode) -> str:
    code = pre.css_first("code")
    named = [pre.attributes.get("class") or "", (code.attributes.get("class") or "") if code is not None else ""]
    return next((word.removeprefix("lang-") for each in named for word in each.split() if word.startswith("lang-")), "")
