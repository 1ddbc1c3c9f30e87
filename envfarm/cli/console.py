"""Terminal output: tables, progress and errors. Data goes to standard output, the rest to standard error; plain text if piped."""

import io
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
SPACE = 2
"""Spaces between the columns of a table."""
LEAST_CHARS = 24
"""The least width of a table's last column when it is folded."""
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters except tabs and line ends."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], *, cut: bool = False) -> None:
    """A table on a terminal; tab-separated lines with a header line if piped. There is no header if no column has a name.

    With `cut`, the last column is cut to the terminal's width instead of folded.
    """
    if not out.is_terminal:
        for row in [columns, *rows] if any(columns) else rows:
            print(*(_plain(cell) for cell in row), sep="\t")  # noqa: T201 - the data of a command
        return
    cells = [[Text("" if cell is None else harmless(str(cell))) for cell in row] for row in rows]
    if cut:
        _cut_last(columns, cells)
    if any(columns) and not _fits(columns, cells):
        if columns[1:] and _widths(columns[:-1], cells)[1] <= out.width:
            _print_in_two_lines(title, columns, cells)
        else:
            _print_blocks(title, columns, cells)
        return
    shown = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        shown.add_column(column, overflow="fold", no_wrap=any(columns) and column != columns[-1])
    for texts in cells:
        shown.add_row(*texts)
    out.print(shown)


def _cut_last(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """Cut the last column to the room beside the others or, if that is too little, to a line below them."""
    widths, whole = _widths(columns, cells)
    room = out.width - (whole - widths[-1])
    for row in cells:
        row[-1].truncate(room if room >= LEAST_CHARS else out.width - len(f"    {columns[-1]}"), overflow="ellipsis")


def _widths(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> tuple[list[int], int]:
    """The width of each column, and of all of them with the spaces between."""
    widths = [max(len(column), *(row[n].cell_len for row in cells)) if cells else len(column) for n, column in enumerate(columns)]
    return widths, sum(widths) + SPACE * (len(widths) - 1)


def _fits(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> bool:
    """Whether all columns but the last fit without folding, so that their values can be copied, with room left for the last."""
    widths, whole = _widths(columns, cells)
    return whole - widths[-1] + min(widths[-1], LEAST_CHARS) <= out.width


def _print_in_two_lines(title: str, columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """A table whose last column does not fit: its cells are printed below their rows."""
    if title:
        out.print(Text(title), style="bold")
    widths, _ = _widths(columns[:-1], cells)
    for row, style in [([Text(column) for column in columns[:-1]], "bold"), *((row, "") for row in cells)]:
        padded = (text.plain + " " * (width - text.cell_len) for text, width in zip(row, widths, strict=False))
        out.print((" " * SPACE).join(padded).rstrip(), markup=False, style=style or None)
        _print_indented("".join(text.plain for text in row[len(widths) :]), "    ")


def _print_indented(text: str, indent: str) -> None:
    """Print text folded only between words, so that names and paths can be copied."""
    if text:
        width = max(out.width, 20)
        lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        out.print("\n".join(lines), markup=False)


def _print_blocks(title: str, columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """A table for narrow terminals: a block of lines per row."""
    if title:
        out.print(Text(title), style="bold")
    for row in cells:
        heading = 1 if columns[0] else 2  # a first column without a name is a mark for the second
        out.print(Text(" ").join(row[:heading]), style="bold")
        for column, text in zip(columns[heading:], row[heading:], strict=True):
            if text.plain:
                _print_indented(f"{column}: {text.plain}", "  ")


def _plain(cell: object) -> str:
    """A cell on one line, without the separator."""
    return "" if cell is None else harmless(" ".join(str(cell).split()))


def harmless(text: str) -> str:
    """Text from agents and repositories, with control characters, which could steer a terminal, shown in hexadecimal."""
    return _STEERING.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def escape_unencodable() -> None:
    """Escape what the terminal's encoding cannot represent (`✓` in ASCII, lone surrogates) instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Discard buffered output once standard output is closed (`… | head`), so that the program ends quietly."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def show(text: str, style: str = "") -> None:
    """Print text that comes from agents or repositories, or quotes it."""
    if text:
        out.print(harmless(text), markup=False, style=style or None)


def rule(title: str, line: str) -> None:
    """Print a horizontal line with a title."""
    out.rule(Text(title), align="left", characters=line)


def say(text: str) -> None:
    """Print a remark to standard error."""
    err.print(harmless(text), markup=False)


@dataclass
class Bar:
    """A progress bar on a terminal; elsewhere a line per finished item."""

    total: int
    what: str
    _progress: Progress | None = None
    _done: int = 0

    def advance(self, note: str = "") -> None:
        """Count one finished item."""
        self._done += 1
        if self._progress:
            self._progress.update(self._progress.task_ids[0], advance=1, description=f"{self.what} {note}")
        else:
            sys.stderr.write(f"{self.what} {self._done}/{self.total} {note}\n")

    def remark(self, text: str) -> None:
        """Print something that stays on the screen."""
        (self._progress.console if self._progress else err).print(harmless(text), markup=False)

    def note(self, text: str) -> None:
        """Show the current item."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], description=f"{self.what} {text}")


@contextmanager
def progress(what: str, total: int) -> Iterator[Bar]:
    """Show the progress of long work."""
    if not err.is_terminal:
        yield Bar(total, what)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as shown:
        shown.add_task(what, total=total)
        yield Bar(total, what, shown)
