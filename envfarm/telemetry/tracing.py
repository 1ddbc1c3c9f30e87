"""Traces for OpenTelemetry: an `Observer` whose spans are sent by OTLP. The only module that imports `opentelemetry`.

Off unless the process's `OTEL_*` variables name a destination (`Settings.tracing`); the SDK reads the other variables. An episode carries
the trace of its rollout, so that hosts in other processes continue it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from envfarm.core.observing import CountName, Fact, LevelName, Span, SpanName

_W3C = TraceContextTextMapPropagator()


class _Traced:
    """A span in progress."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        """See `Span.traceparent`."""
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(self._span))
        return carrier.get("traceparent", "")

    def note(self, **facts: Fact) -> None:
        """See `Span.note`."""
        self._span.set_attributes(_named(facts))


class TracingObserver:
    """Sends spans to an exporter in batches, from a thread of the SDK. `close` sends the last ones."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "envfarm"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("envfarm")

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:
        """See `Observer.span`. Facts become attributes `envfarm.…`, ids included."""
        parent = _W3C.extract({"traceparent": within}) if within else None
        with self._tracer.start_as_current_span(name, context=parent, attributes=_named(facts)) as span:
            yield _Traced(span)

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """For metrics only."""

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """For metrics only."""

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """For metrics only."""

    def close(self) -> None:
        """Send the remaining spans. Waits for the collector, up to the SDK's timeout."""
        self._provider.shutdown()


def otlp() -> TracingObserver:
    """Traces by OTLP over HTTP, to the destination in the `OTEL_EXPORTER_OTLP_*` variables."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - slow to import, and needed only if tracing is on

    return TracingObserver(OTLPSpanExporter())


def _named(facts: dict[str, Fact]) -> dict[str, Fact]:
    return {f"envfarm.{name}": value for name, value in facts.items()}
