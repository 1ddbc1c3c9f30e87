"""Log lines that say which episode they are about, as text for people or JSON for machines. Quiet unless something is wrong.

Called once per process, by the command line. The facts of the spans around a line (episode, run, tenant) come with it, whoever wrote it.
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
    """Lends a span's facts to the lines that are written inside it, and writes one line at the end of each episode (INFO)."""

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:  # noqa: ARG002 - traces' alone
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
        """Metrics' alone."""

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """Metrics' alone."""

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """Metrics' alone."""


class JsonLines(logging.Formatter):
    """One object a line: time (UTC), level, logger, message, the facts around, and the trace of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        at = datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")
        line: dict[str, Fact] = {"time": at, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= _around.get()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextLines(logging.Formatter):
    """For people: the facts stand behind the message."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        facts = "".join(f" {k}={v}" for k, v in _around.get().items())
        head, *rest = super().format(record).splitlines() or [""]
        return "\n".join([head + facts, *rest])


def configure(how: Format, *, level: str = "WARNING") -> None:
    """Have the process' lines written to standard error in this form."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(JsonLines() if how == "json" else TextLines("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[to_stderr], force=True)
    logging.getLogger("envfarm").setLevel(level.upper())
