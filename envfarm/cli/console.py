"""What people see: tables, progress and errors. Data goes to standard output, the rest to standard error; plain where piped."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table for people on a terminal; tab-separated lines with a header line where piped."""
    if not out.is_terminal:
        for row in [columns, *rows]:
            print(*("" if cell is None else cell for cell in row), sep="\t")  # noqa: T201 - the data of a command
        return
    shown = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(shown)


def say(text: str) -> None:
    """A remark beside the data."""
    err.print(text, markup=False)


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
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as shown:
        shown.add_task(what, total=total)
        yield Bar(total, what, shown)
