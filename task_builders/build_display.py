"""Shows a build's events: a line each where output is piped, live lines on a terminal. Made by the build command; decides nothing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from envfarm.core.ids import Digest
from task_builders import progress
from task_builders.journal import ItemFailed, ItemRejected, ItemValid
from task_builders.progress import Event, Watch

TITLE_CHARS = 60


def line_of(event: Event) -> str:
    """An event as a line."""
    match event:
        case progress.SourceRead():
            text = f"{event.source}: {event.records} records, {event.rejected} of them not candidates"
        case progress.SourceFailed():
            text = f"{event.source} is left to the next build"  # why is told at the end, when nothing scrolls it away
        case progress.ItemStarted():
            text = f"{_short(event.item)} begun: {event.title}"
        case progress.ItemAt():
            text = f"{_short(event.item)} {event.stage}"
        case progress.Waiting():
            text = event.words
        case _:
            text = result_line(event.result)
    return text


def result_line(result: ItemValid | ItemRejected | ItemFailed) -> str:
    """What became of a record, in a line."""
    at = _short(result.source_digest)
    match result:
        case ItemValid(not_asked=left_out):
            state = f"UNCHECKED (without {', '.join(left_out)})" if left_out else "VALID"
            return f"{at} {state} {result.task_name} in {result.seconds:.0f} s"
        case ItemFailed():
            return f"{at} not judged: {result.error.splitlines()[0]}" + (f" ({result.hint})" if result.hint else "")
        case ItemRejected(rejection=why):
            detail = why.detail.splitlines()[0][:200] if why.detail else ""
            return f"{at} rejected at {why.gate.value}: {why.reason}" + (f" ({detail})" if detail not in ("", why.reason) else "")


class Lines:
    """For pipes and logs. Records that are no candidates are counted, not listed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._start = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        text = line_of(event)
        if not _is_small(event):
            self._console.print(f"{time.monotonic() - self._start:7.0f} s  {text}", markup=False)


class Live:
    """For terminals: a line per candidate at work, with its stage; what is finished scrolls up."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown
        self._open: dict[Digest, TaskID] = {}
        self._titles: dict[Digest, str] = {}
        self._counts = {"valid": 0, "unchecked": 0, "rejected": 0, "failed": 0}
        self._sum = shown.add_task(self._words())

    def __call__(self, event: Event) -> None:
        """Show an event."""
        match event:
            case progress.ItemStarted():
                self._titles[event.item] = event.title[:TITLE_CHARS]
                self._open[event.item] = self._shown.add_task(event.title[:TITLE_CHARS])
            case progress.ItemAt(item=item) if item in self._open:
                self._shown.update(self._open[item], description=f"{self._titles[item]} · {event.stage}")
            case progress.ItemDone():
                is_unchecked = isinstance(event.result, ItemValid) and event.result.not_asked
                self._counts["unchecked" if is_unchecked else event.result.kind] += 1
                self._shown.update(self._sum, description=self._words())
                if event.item in self._open:
                    self._shown.remove_task(self._open.pop(event.item))
        if not isinstance(event, progress.ItemStarted | progress.ItemAt) and not _is_small(event):
            self._shown.console.print(line_of(event), markup=False)

    def _words(self) -> str:
        unchecked = f"{self._counts['unchecked']} unchecked, " if self._counts["unchecked"] else ""
        return f"{self._counts['valid']} valid, {unchecked}{self._counts['rejected']} rejected, {self._counts['failed']} not judged"


@contextmanager
def watching(console: Console) -> Iterator[Watch]:
    """The watch that suits where the output goes."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as shown:
        yield Live(shown)


def _is_small(event: Event) -> bool:
    return isinstance(event, progress.ItemDone) and isinstance(event.result, ItemRejected) and event.result.reached == "record"


def _short(item: Digest) -> str:
    return item.removeprefix("sha256:")[:8]
