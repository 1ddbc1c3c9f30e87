"""Combines several observers into one."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from envfarm.core.observing import CountName, Fact, LevelName, Observer, Span, SpanName


class _Spans:
    """One span in several observers."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans

    @property
    def traceparent(self) -> str:
        """The first one that is set."""
        return next((s.traceparent for s in self._spans if s.traceparent), "")

    def note(self, **facts: Fact) -> None:
        """Pass on to all."""
        for span in self._spans:
            span.note(**facts)


class Together:
    """Passes everything on to each of several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:
        """See `Observer.span`."""
        with ExitStack() as all_of_them:
            spans = [all_of_them.enter_context(observer.span(name, within=within, **facts)) for observer in self._observers]
            yield _Spans(spans)

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """See `Observer.count`."""
        for observer in self._observers:
            observer.count(name, amount, **facts)

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """See `Observer.level`."""
        for observer in self._observers:
            observer.level(name, value, **facts)

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """See `Observer.shift`."""
        for observer in self._observers:
            observer.shift(name, by, **facts)
