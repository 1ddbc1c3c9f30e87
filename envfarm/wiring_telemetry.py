"""Settings → what a process tells of itself: metrics, traces where a collector is named, facts in log lines. For services and hosts."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from envfarm.core.errors import UsageError
from envfarm.core.observing import Observer
from envfarm.settings import Settings
from envfarm.telemetry.logs import LoggingObserver
from envfarm.telemetry.prometheus import PrometheusObserver
from envfarm.telemetry.together import Together


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What is handed to a `Farm`, and what shows the metrics."""

    observer: Observer
    prometheus: PrometheusObserver


@contextmanager
def telemetry(settings: Settings) -> Iterator[Telemetry]:
    """For the time of the block; spans that are still here are sent at its end. Raises `UsageError` where the SDK is missing."""
    prometheus, logging = PrometheusObserver(), LoggingObserver()
    if not settings.tracing:
        yield Telemetry(Together((logging, prometheus)), prometheus)
        return
    try:
        from envfarm.telemetry.tracing import otlp  # noqa: PLC0415 - of the extra `otel`

        tracing = otlp()
    except ModuleNotFoundError as e:
        raise UsageError(f"tracing needs {e.name}", hint="pip install 'envfarm[otel]', or unset OTEL_EXPORTER_OTLP_ENDPOINT") from e
    try:
        yield Telemetry(Together((logging, prometheus, tracing)), prometheus)
    finally:
        tracing.close()
