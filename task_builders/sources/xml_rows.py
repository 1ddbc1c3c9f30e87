"""The rows of a file of a Stack Exchange dump, pushed through expat as bytes arrive. Called by the dump's index.

A row is one element without content, `<row Id="…" … />`. A row that is no XML, or that does not end, is told with its place, and reading
goes on with the next; so is an end that comes too early. Memory holds one chunk and one row. Must not look at what rows say.
"""

from collections.abc import Callable
from pyexpat import ExpatError, ParserCreate, XMLParserType
from typing import NamedTuple

from envfarm.core.errors import SourceError

ROW = b"<row "
EXCERPT_BYTES = 120
TAIL_BYTES = 1 << 16
"""How far back the place of a mistake is gone to, or farther where something has not ended."""
LONGEST_BYTES = 1 << 22
"""Of a row, a remark or whatever else begins with `<`: what has not ended by then never will. A post has some 30,000 characters."""
NO_ROW_ENDS = "it does not end"
NO_END = frozenset({"no element found", "unclosed token", "unclosed CDATA section", "partial character"})
"""What expat says of a text that ends too early."""

OnRow = Callable[[str, dict[str, str]], None]
"""Called with an element's name and its attributes."""


class Fault(NamedTuple):
    """What could not be read."""

    where: str
    """For a person: `byte 1234` of the XML, or `row 12`."""
    why: str
    excerpt: str
    is_cut_off: bool = False


class RowParser:
    """Takes a file's bytes in order; calls `on_row` for each element that can be read and `on_fault` for what cannot."""

    def __init__(self, on_row: OnRow, on_fault: Callable[[Fault], None]) -> None:
        self._on_row = on_row
        self._on_fault = on_fault
        self._root = "rows"
        self._before = 0  # bytes of the file before the chunk
        self._parser: XMLParserType
        self._given = self._parsed = 0  # bytes that the present parser was given before the chunk, and what it made of them
        self._searching = False
        self._carry = self._tail = b""
        self._begin()

    def feed(self, chunk: bytes) -> None:
        """The next bytes. Raises what `on_row` raises, and `SourceError` for a document that brings declarations of its own."""
        if self._searching:
            chunk, self._before = self._carry + chunk, self._before - len(self._carry)
        at, broken_at = 0, -1
        while (start := self._resume(chunk, at)) is not None:
            at = start
            try:
                self._parser.Parse(memoryview(chunk)[at:])
            except ExpatError as e:
                why, where = str(e), at + self._parser.ErrorByteIndex - self._given
            except _NoRowError as e:
                why, where = str(e), at + e.index - self._given
            else:
                self._given += len(chunk) - at
                self._parsed = max(self._parsed, self._parser.CurrentByteIndex)  # -1 where expat only took the bytes
                if (behind := self._behind) <= LONGEST_BYTES:
                    break
                why, where = NO_ROW_ENDS, len(chunk) - behind
            if where < 0:
                chunk, where = self._from_before(chunk, -where), 0
            self._searching = True
            if where != broken_at:
                self._tell(where, chunk, why)
            # A raw `<` inside a value is where the next row begins: it is tried once, and passed over the second time.
            at, broken_at = (where + 1 if where == broken_at or why == NO_ROW_ENDS else where), where
        self._before += len(chunk)
        kept = TAIL_BYTES if self._searching else max(TAIL_BYTES, self._behind)
        self._tail = chunk[-kept:] if len(chunk) >= kept else (self._tail + chunk)[-kept:]

    @property
    def _behind(self) -> int:
        """How many bytes the parser keeps because what they began has not ended; it reads them again with each chunk."""
        return self._given - self._parsed

    def _from_before(self, chunk: bytes, lag: int) -> bytes:
        """The chunk with the last bytes of those before it: a mistake is told where its element begins, which may be there."""
        found = self._tail[-lag:]
        self._before -= len(found)
        return found + chunk

    def _resume(self, chunk: bytes, at: int) -> int | None:
        """Where parsing goes on: at once, or at the next row after one that was broken; None where the chunk has none."""
        if not self._searching:
            return at
        found = chunk.find(ROW, at)
        if found < 0:
            self._carry = chunk[-(len(ROW) - 1) :]
            return None
        self._searching, self._carry = False, b""
        self._begin(f"<{self._root}>".encode())
        return found

    @property
    def position(self) -> int:
        """How many bytes were taken."""
        return self._before

    def close(self) -> None:
        """There is no more."""
        if self._searching:
            return
        try:
            self._parser.Parse(b"", True)
        except ExpatError as e:
            cut = str(e).partition(":")[0] in NO_END
            self._on_fault(Fault(f"byte {self._before}", "the file is cut off" if cut else str(e), "", is_cut_off=cut))

    def _begin(self, opening: bytes = b"") -> None:
        self._parser = parser = ParserCreate()
        parser.StartDoctypeDeclHandler = _refuse
        parser.StartElementHandler = self._first
        parser.StartCdataSectionHandler = self._cdata
        parser.Parse(opening)
        self._given, self._parsed = len(opening), 0

    def _first(self, name: str, _: dict[str, str]) -> None:
        """The root; everything after it goes to whoever wants rows, without a detour."""
        self._root = name
        self._parser.StartElementHandler = self._on_row

    def _cdata(self) -> None:
        """It would hide all rows up to its end, or to the file's."""
        raise _NoRowError("a CDATA section", self._parser.CurrentByteIndex)

    def _tell(self, at: int, chunk: bytes, why: str) -> None:
        words = why.partition(":")[0]
        start = max(chunk.rfind(ROW, 0, at), 0, at - EXCERPT_BYTES)
        self._on_fault(Fault(f"byte {self._before + at}", words, chunk[start : at + EXCERPT_BYTES].decode(errors="replace")))


class _NoRowError(Exception):
    """What no dump has was met, at a byte of what the parser was given."""

    def __init__(self, what: str, index: int) -> None:
        super().__init__(what)
        self.index = index


def _refuse(*_: object) -> None:
    raise SourceError("the file declares a document type of its own", hint="a dump's file has none: is it one?")
