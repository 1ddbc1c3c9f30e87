"""Metrics for Prometheus: an `Observer` that counts. The only module that imports `prometheus_client`; made by wiring, one per process.

Each metric takes the facts that its line in the tables names, and no others: an episode's or a rollout's id never becomes a label. What a
label may say is bounded too: after `MOST_VALUES` different words it says `other`.
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
    "rollout": ("envfarm_ask_seconds", "Taking a request for episodes", ("kind", "error"), FAST),
    "episode": ("envfarm_episode_seconds", "Attempts at episodes, by what they came to", ("kind", "cause", "error"), SLOW),
    "create": ("envfarm_box_create_seconds", "Making boxes", ("sandbox", "purpose", "error"), FAST),
    "think": ("envfarm_think_seconds", "Policies choosing an action", ("policy", "error"), FAST),
    "exec": ("envfarm_exec_seconds", "Actions in boxes", ("tool", "error"), FAST),
    "grade": ("envfarm_grade_seconds", "Grading, from the change to the verdict", ("mode", "kind", "error"), SLOW),
    "request": ("envfarm_request_seconds", "Requests of the API, by the route's pattern", ("method", "route", "status"), FAST),
    "gateway call": ("envfarm_gateway_call_seconds", "Agents' calls of a model", ("dialect", "error"), FAST),
}
COUNTS: Mapping[CountName, tuple[str, str, Labels]] = {
    "asked": ("envfarm_asked", "Requests for episodes, by the answer", ("kind", "answer")),
    "admission": ("envfarm_admissions", "Decisions on waiting episodes: granted, impossible, or what they wait for", ("decision",)),
    "retry": ("envfarm_retries", "Attempts that are tried again, by cause", ("cause",)),
    "lease lost": ("envfarm_leases_lost", "Leases of this host that another one took", ()),
    "statement": ("envfarm_sql_statements", "Statements of SQL", ("verb",)),
    "usage": ("envfarm_usage", "What boxes had and used: vCPU seconds, GiB seconds, bytes, by resource", ("tenant", "resource")),
}
LEVELS: Mapping[LevelName, tuple[str, str, Labels]] = {
    "boxes": ("envfarm_boxes", "Boxes of this process that are alive", ("purpose",)),
    "engine calls": ("envfarm_engine_calls", "Calls of this process's gateway that are under way, by engine", ("engine",)),
    "queue": ("envfarm_queue_episodes", "Unfinished episodes in the database, by state", ("state",)),
    "groups": ("envfarm_ready_groups", "Finished groups in the database that no trainer has acknowledged", ()),
    "capacity": (
        "envfarm_capacity_episodes",
        "Episodes that this host may play at once: its bound, or as many boxes as its cluster has shown places for",
        (),
    ),
}


class _Noted(UntoldSpan):
    """Keeps what is told of a span until its end."""

    def __init__(self, facts: dict[str, Fact]) -> None:
        self.facts = facts

    def note(self, **facts: Fact) -> None:
        """See `Span.note`."""
        self.facts.update(facts)


class PrometheusObserver:
    """Metrics in a registry of their own. Safe to tell from any thread."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seen: dict[tuple[str, str], set[str]] = {}
        self._spans = {
            span: Histogram(name, what, labels, buckets=buckets, registry=self._registry)
            for span, (name, what, labels, buckets) in SPANS.items()
        }
        self._live = Gauge("envfarm_live", "What is going on in this process now", ("what",), registry=self._registry)
        self._counts = {key: Counter(name, what, labels, registry=self._registry) for key, (name, what, labels) in COUNTS.items()}
        self._levels = {key: Gauge(name, what, labels, registry=self._registry) for key, (name, what, labels) in LEVELS.items()}

    @contextmanager
    def span(self, name: SpanName, *, within: str = "", **facts: Fact) -> Iterator[Span]:  # noqa: ARG002 - traces' alone
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
        """Everything in Prometheus' text format, and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def serve(self, host: str, port: int) -> tuple[int, Any]:
        """Serve the page from a thread, for a process without an API: the port that was taken, and what stops it by `shutdown`."""
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
