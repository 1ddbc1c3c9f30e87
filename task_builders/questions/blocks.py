"""Splits a post's HTML into what a reader sees: prose and blocks of code, in order. Pure.

Uses lexbor, which parses broken markup by HTML's own rules: an unclosed element ends with the post. Must not judge what a block is.
"""

from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

PARAGRAPHS = frozenset("p li h1 h2 h3 h4 h5 h6 td th dt dd blockquote div".split())  # noqa: SIM905 - a table for reading
BOLD = frozenset("h1 h2 h3 h4 h5 h6 strong b".split())  # noqa: SIM905 - see above
LEFT_OUT = frozenset({"script", "style", "kbd-hint"})
LEAVES = LEFT_OUT | {"-text", "pre", "code", "br"}


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph, list item or heading."""

    text: str
    """Text with single spaces; inline code is in backquotes."""
    code: tuple[str, ...] = ()
    """Pieces of inline code in it."""
    heading: bool = False
    """Whether all its words are a heading's, or bold."""
    link: bool = False
    """Whether all its words are links'."""


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, verbatim."""

    text: str
    """Its lines, without empty lines at either end, ending in one newline."""
    language: str = ""
    """The language given in the post's markup (`bash`, `py`); usually empty."""
    quoted: bool = False
    """Whether it stands in a quotation, as programs' messages often do."""


Piece = Prose | Block


def pieces(html: str) -> tuple[Piece, ...]:
    """The pieces of a post, in order."""
    body = LexborHTMLParser(html).body
    if body is None:
        return ()
    gathered = _Gathered([])
    _walk(body, gathered)
    gathered.end_paragraph()
    return tuple(gathered.pieces)


@dataclass(slots=True)
class _Gathered:
    pieces: list[Piece]
    words: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)
    plain: bool = False
    """Whether a word of the paragraph is not bold."""
    unlinked: bool = False
    """Whether a word of the paragraph is in no link."""

    def word(self, text: str, *, bold: bool, linked: bool) -> None:
        self.words.append(text)
        self.plain |= not bold and bool(text.strip())
        self.unlinked |= not linked and bool(text.strip())

    def end_paragraph(self) -> None:
        text = " ".join("".join(self.words).split())
        if text:
            self.pieces.append(Prose(text, tuple(self.code), heading=not self.plain, link=not self.unlinked))
        self.words, self.code, self.plain, self.unlinked = [], [], False, False


def _walk(body: LexborNode, gathered: _Gathered) -> None:
    """Walk with an explicit stack: a post may be nested deeper than Python's recursion limit."""
    open_nodes = [(body.iter(include_text=True), "", False, False, False)]
    while open_nodes:
        children, tag, quoted, bold, linked = open_nodes[-1]
        child = next(children, None)
        if child is None:
            open_nodes.pop()
        elif _is_leaf(child, gathered, quoted=quoted, bold=bold, linked=linked):
            continue
        else:
            tag = child.tag or ""
            marks = quoted or tag == "blockquote", bold or tag in BOLD, linked or tag == "a"
            open_nodes.append((child.iter(include_text=True), tag, *marks))
        if tag in PARAGRAPHS:  # a paragraph begins or has ended
            gathered.end_paragraph()


def _is_leaf(child: LexborNode, gathered: _Gathered, *, quoted: bool, bold: bool, linked: bool) -> bool:
    """Whether the node has no children to visit; it has then been gathered."""
    tag = child.tag or ""
    if tag == "-text":
        gathered.word(child.text_content or "", bold=bold, linked=linked)
    elif tag == "pre":
        gathered.end_paragraph()
        if text := _trimmed(child.text(deep=True)):
            gathered.pieces.append(Block(text, _language(child), quoted))
    elif tag == "code":
        text = child.text(deep=True)
        gathered.word(f"`{text}`", bold=bold, linked=linked)
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
