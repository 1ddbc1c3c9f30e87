"""Metrics for Prometheus: an `Observer` that counts. The only module that imports `prometheus_client`; one observer per process.

A metric has only the labels that its entry in the tables names: ids of episodes or rollouts never become labels. The values of a label are
bounded, too: after `MOST_VALUES` different ones further values become `other`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from envfarm.core.observing import CountName, Fact, LevelName, Span, SpanName, UntoldSpan

MOST_VALUES = 50
OTHER = "other"
FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
SLOW = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0)
Labels = tuple[str, ...]

SPANS: Mapping[SpanName, tuple[str, str, Labels, tuple[float, ...]]] = {
    "rollout": ("envfarm_ask_seconds", "Time to accept a request for episodes", ("kind", "error"), FAST),
    "episode": ("envfarm_episode_seconds", "Attempts at episodes, by result", ("kind", "cause", "error"), SLOW),
    "create": ("envfarm_box_create_seconds", "Time to create boxes", ("sandbox", "purpose", "error"), FAST),
    "think": ("envfarm_think_seconds", "Time of policies to choose an action", ("policy", "error"), FAST),
    "exec": ("envfarm_exec_seconds", "Actions in boxes", ("tool", "error"), FAST),
    "grade": ("envfarm_grade_seconds", "Grading, from the change to the verdict", ("mode", "kind", "error"), SLOW),
    "request": ("envfarm_request_seconds", "Requests of the API, by the route's pattern", ("method", "route", "status"), FAST),
    "gateway call": ("envfarm_gateway_call_seconds", "Agents' calls of a model", ("dialect", "error"), FAST),
}
COUNTS: Mapping[CountName, tuple[str, str, Labels]] = {
    "asked": ("envfarm_asked", "Requests for episodes, by the answer", ("kind", "answer")),
    "admission": (
        "envfarm_admissions",
        "Decisions on waiting episodes: granted, too large (for this host), or what they wait for",
        ("decision",),
    ),
    "retry": ("envfarm_retries", "Attempts that are retried, by cause", ("cause",)),
    "lease lost": ("envfarm_leases_lost", "Leases of this host that another host took", ()),
    "statement": ("envfarm_sql_statements", "SQL statements", ("verb",)),
    "usage": ("envfarm_usage", "Resources granted to boxes and used by them: vCPU seconds, GiB seconds, bytes", ("tenant", "resource")),
}
LEVELS: Mapping[LevelName, tuple[str, str, Labels]] = {
    "boxes": ("envfarm_boxes", "Boxes of this process that are alive", ("purpose",)),
    "engine calls": ("envfarm_engine_calls", "Calls of this process's gateway in progress, by engine", ("engine",)),
    "queue": ("envfarm_queue_episodes", "Unfinished episodes in the database, by state", ("state",)),
    "groups": ("envfarm_ready_groups", "Finished groups in the database that no trainer has acknowledged", ()),
    "capacity": (
        "envfarm_capacity_episodes",
        "Concurrent episodes that this host may play: its limit, or the boxes that its cluster has shown to have room for",
        (),
    ),
}


class _Noted(UntoldSpan):
    """Collects a span's facts until its end."""

    def __init__(self, facts: dict[str, Fact]) -> None:
        self.facts = facts

    def note(self, **facts: Fact) -> None:
        """See `Span.note`."""
        self.facts.update(facts)


class PrometheusObserver:
    """Metrics in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._spans = {
            span: Histogram(name, what, labels, buckets=buckets, registry=self._registry)
            for span, (name, what, labels, buckets) in SPANS.items()
        }
        self._live = Gauge("envfarm_live", "Operations in progress in this process", ("what",), registry=self._registry)
        self._counts = {key: Counter(name, what, labels, registry=self._registry) for key, (name, what, labels) in COUNTS.items()}
        self._levels = {key: Gauge(name, what, labels, registry=self._registry) for key, (name, what, labels) in LEVELS.items()}

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:  # noqa: ARG002 - used by traces only
        """See `Observer.span`."""
        began, live = time.perf_counter(), self._live.labels(what=name)
        noted = _Noted(dict(facts))
        live.inc()
        try:
            yield noted
        except BaseException as error:
            noted.note(error=type(error).__name__)
            raise
        finally:
            live.dec()
            self._child(self._spans[name], SPANS[name][2], noted.facts).observe(time.perf_counter() - began)

    def count(self, name: CountName, amount: float = 1.0, **facts: Fact) -> None:
        """See `Observer.count`."""
        self._child(self._counts[name], COUNTS[name][2], facts).inc(amount)

    def level(self, name: LevelName, value: float, **facts: Fact) -> None:
        """See `Observer.level`."""
        self._child(self._levels[name], LEVELS[name][2], facts).set(value)

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """See `Observer.shift`."""
        self._child(self._levels[name], LEVELS[name][2], facts).inc(by)

    def page(self) -> tuple[bytes, str]:
        """All metrics in Prometheus's text format, and the media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def serve(self, host: str, port: int) -> tuple[int, Any]:
        """Serve the page in a thread, for a process without an API. Returns the port, and the server, which `shutdown` stops."""
        server, _ = start_http_server(port, addr=host, registry=self._registry)
        return server.server_port, server

    def _child(self, metric: Any, names: Labels, facts: Mapping[str, Fact]) -> Any:
        if not names:
            return metric
        return metric.labels(**{name: self._bounded(metric._name, name, str(facts.get(name, ""))) for name in names})  # noqa: SLF001 - its name

    def _bounded(self, metric: str, label: str, value: str) -> str:
        seen = self._seen.setdefault((metric, label), set())
        if value not in seen:
            if len(seen) >= MOST_VALUES:
                return OTHER
            seen.add(value)
        return value
