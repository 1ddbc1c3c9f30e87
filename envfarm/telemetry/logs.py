"""Log lines with the episode that they concern, as text or JSON. By default only warnings and errors are written.

Facts of the enclosing spans (episode, run, tenant) are added to every line, whichever code wrote it. To be configured once per process.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

from envfarm.core.observing import CountName, Fact, LevelName, Span, SpanName, UntoldSpan

Format = Literal["text", "json"]
CARRIED = ("tenant", "run", "episode", "step")
_around: ContextVar[Mapping[str, Fact]] = ContextVar("envfarm log facts", default={})  # noqa: B039 - never written to
log = logging.getLogger("envfarm.told")


class _Kept(UntoldSpan):
    def __init__(self) -> None:
        self.facts: dict[str, Fact] = {}

    def note(self, **facts: Fact) -> None:
        """See `Span.note`."""
        self.facts.update(facts)


class LoggingObserver:
    """Adds a span's facts to the lines written inside it, and writes one INFO line at the end of each attempt."""

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:  # noqa: ARG002 - used by traces only
        """See `Observer.span`."""
        before = _around.set({**_around.get(), **{k: v for k, v in facts.items() if k in CARRIED}})
        kept = _Kept()
        try:
            yield kept
        finally:
            if name == "episode":
                log.info("an attempt ended: %s", " ".join(f"{k}={v}" for k, v in kept.facts.items()) or "interrupted")
            _around.reset(before)

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """For metrics only."""

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """For metrics only."""

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """For metrics only."""


class JsonLines(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, facts, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
        line: dict[str, Fact] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= _around.get()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """Text lines: the facts follow the message."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        facts = "".join(f" {k}={v}" for k, v in _around.get().items())
        head, *rest = super().format(record).splitlines() or [""]
        return "\n".join([head + facts, *rest])


def configure(how: Format, *, level: str = "WARNING") -> None:
    """Write the process's log lines to standard error in this format."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(JsonLines() if how == "json" else TextLines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[to_stderr], force=True)
    logging.getLogger("envfarm").setLevel(level.upper())
