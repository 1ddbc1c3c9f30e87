"""What people see: tables, progress and errors. Data goes to standard output, the rest to standard error; plain where piped."""

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
"""Between the columns of a table."""
LEAST_CHARS = 24
"""Of a table's last column, when it is folded."""
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Control characters, save tabs and line ends."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people on a terminal; tab-separated lines with a header line where piped. No header where every column is nameless."""
    if not out.is_terminal:
        for row in [columns, *rows] if any(columns) else rows:
            print(*(_plain(cell) for cell in row), sep="\t")  # noqa: T201 - the data of a command
        return
    cells = [[Text("" if cell is None else harmless(str(cell))) for cell in row] for row in rows]
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


def _widths(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> tuple[list[int], int]:
    """Of each column, and of all beside each other."""
    widths = [max(len(column), *(row[n].cell_len for row in cells)) if cells else len(column) for n, column in enumerate(columns)]
    return widths, sum(widths) + SPACE * (len(widths) - 1)


def _fits(columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> bool:
    """Whether all columns but the last stand unbroken, so that what they say can be copied, and the last has room to be folded into."""
    widths, whole = _widths(columns, cells)
    return whole - widths[-1] + min(widths[-1], LEAST_CHARS) <= out.width


def _print_in_two_lines(title: str, columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """A table whose last column has no room: it stands below each row."""
    if title:
        out.print(Text(title), style="bold")
    widths, _ = _widths(columns[:-1], cells)
    for row, style in [([Text(column) for column in columns[:-1]], "bold"), *((row, "") for row in cells)]:
        padded = (text.plain + " " * (width - text.cell_len) for text, width in zip(row, widths, strict=False))
        out.print((" " * SPACE).join(padded).rstrip(), markup=False, style=style or None)
        _print_indented("".join(text.plain for text in row[len(widths) :]), "    ")


def _print_indented(text: str, indent: str) -> None:
    """Broken between words alone: a name or a path stays whole, to be copied."""
    if text:
        width = max(out.width, 20)
        lines = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
        out.print("\n".join(lines), markup=False)


def _print_blocks(title: str, columns: Sequence[str], cells: Sequence[Sequence[Text]]) -> None:
    """A table for narrow terminals: each row is some lines of its own."""
    if title:
        out.print(Text(title), style="bold")
    for row in cells:
        heading = 1 if columns[0] else 2  # a nameless first column is a mark beside the name
        out.print(Text(" ").join(row[:heading]), style="bold")
        for column, text in zip(columns[heading:], row[heading:], strict=True):
            if text.plain:
                _print_indented(f"{column}: {text.plain}", "  ")


def _plain(cell: object) -> str:
    """A cell in one line, without the separator."""
    return "" if cell is None else harmless(" ".join(str(cell).split()))


def harmless(text: str) -> str:
    """Text that agents and repositories wrote, without what would steer a person's terminal: such characters are shown in hexadecimal."""
    return _STEERING.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def write_whatever_comes() -> None:
    """What a terminal's encoding or Unicode itself cannot say (`✓` in ASCII, half a surrogate pair) is escaped, and stops nobody."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def let_go_of_output() -> None:
    """Nobody reads standard output any more (`… | head`): what is still buffered goes nowhere, so that the end of the program is quiet."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def show(text: str, style: str = "") -> None:
    """Text that agents and repositories wrote, or that quotes it."""
    if text:
        out.print(harmless(text), markup=False, style=style or None)


def rule(title: str, line: str) -> None:
    """A line across, with a title."""
    out.rule(Text(title), align="left", characters=line)


def say(text: str) -> None:
    """A remark beside the data."""
    err.print(harmless(text), markup=False)


@dataclass
class Bar:
    """A progress bar on a terminal; a line per finished item elsewhere."""

    total: int
    what: str
    _progress: Progress | None = None
    _done: int = 0

    def advance(self, note: str = "") -> None:
        """One more is done."""
        self._done += 1
        if self._progress:
            self._progress.update(self._progress.task_ids[0], advance=1, description=f"{self.what} {note}")
        else:
            sys.stderr.write(f"{self.what} {self._done}/{self.total} {note}\n")

    def remark(self, text: str) -> None:
        """Something that a person should not miss: it stays on the screen."""
        (self._progress.console if self._progress else err).print(harmless(text), markup=False)

    def note(self, text: str) -> None:
        """What is being done now."""
        if self._progress:
            self._progress.update(self._progress.task_ids[0], description=f"{self.what} {text}")


@contextmanager
def progress(what: str, total: int) -> Iterator[Bar]:
    """Show how far a long work is."""
    if not err.is_terminal:
        yield Bar(total, what)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as shown:
        shown.add_task(what, total=total)
        yield Bar(total, what, shown)
