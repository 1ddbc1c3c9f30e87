"""Metrics for Prometheus: an `Observer` that counts, and a page of what several processes' counted. Alone imports `prometheus_client`.

One observer per process. Its `tally` goes to the database with the lease of the process's host; of all hosts' `page_of` makes one page.
A metric has only the labels that its entry in the tables names: ids of episodes or rollouts never become labels. The values of a label are
bounded, too: after `MOST_VALUES` different ones further values become `other`.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from envfarm.core.observing import CountName, Fact, LevelName, Span, SpanName, UntoldSpan
from envfarm.core.tally import NOTHING, OTHER, SUM, TOTAL, Parts, Tally, in_steps, labelled, labels_of

MOST_VALUES = 50
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
    "gone on": (
        "envfarm_continuations",
        "Attempts behind an earlier one: in its box (adopted), by a replay, or from the beginning",
        ("how",),
    ),
    "lease lost": ("envfarm_leases_lost", "Leases of this host that another host took", ()),
    "statement": ("envfarm_sql_statements", "SQL statements", ("verb",)),
    "usage": ("envfarm_usage", "Resources granted to boxes and used by them: vCPU seconds, GiB seconds, bytes", ("tenant", "resource")),
}
LEVELS: Mapping[LevelName, tuple[str, str, Labels]] = {
    "boxes": ("envfarm_boxes", "Boxes that are alive", ("purpose",)),
    "engine calls": ("envfarm_engine_calls", "Calls of models in progress, by engine", ("engine",)),
    "queue": ("envfarm_queue_episodes", "Unfinished episodes in the database, by state", ("state",)),
    "groups": ("envfarm_ready_groups", "Finished groups in the database that no trainer has acknowledged", ()),
    "capacity": (
        "envfarm_capacity_episodes",
        "Concurrent episodes that hosts may play: their limits, or the boxes that the cluster has shown to have room for",
        (),
    ),
    "hosts": ("envfarm_hosts", "Hosts whose lease stands, the one beside the API among them", ()),
}
OF_THE_FARM: frozenset[LevelName] = frozenset({"queue", "groups"})
"""Levels of the database: every host tells the same."""
LIVE = ("envfarm_live", "Operations in progress", ("what",))


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
        self._live = Gauge(*LIVE, registry=self._registry)
        self._counts = {key: Counter(name, what, labels, registry=self._registry) for key, (name, what, labels) in COUNTS.items()}
        self._levels = {key: Gauge(name, what, labels, registry=self._registry) for key, (name, what, labels) in LEVELS.items()}
        self._viewed: set[str] = set()
        """Metrics of the farm that were told: of others no 0 may stand for what another process knows."""

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
        if name in OF_THE_FARM:
            self._viewed.add(LEVELS[name][0])
        self._child(self._levels[name], LEVELS[name][2], facts).set(value)

    def shift(self, name: LevelName, by: float, **facts: Fact) -> None:
        """See `Observer.shift`."""
        self._child(self._levels[name], LEVELS[name][2], facts).inc(by)

    def tally(self) -> Tally:
        """What was told so far, to be added to what other processes were."""
        counts, levels, views = dict[str, dict[str, Parts]](), dict[str, dict[str, float]](), dict[str, dict[str, float]]()
        of_the_farm = {LEVELS[name][0] for name in OF_THE_FARM}
        for metric in self._registry.collect():
            if metric.type != "gauge":
                counts[metric.name] = _parts(metric)
            elif metric.name in self._viewed or metric.name not in of_the_farm:
                kind = views if metric.name in of_the_farm else levels
                kind[metric.name] = {labelled(s.labels): in_steps(s.value) for s in metric.samples}
        return NOTHING.plus(Tally(counts=counts, levels=levels, views=views))

    def serve(self, host: str, port: int) -> tuple[int, Any]:
        """Serve this process's own metrics, as of now, in a thread. Returns the port, and the server, which `shutdown` stops."""
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


def page_of(tally: Tally) -> tuple[bytes, str]:
    """What was counted in Prometheus's text format, and the media type. Metrics that only a newer release knows are left out."""
    registry = CollectorRegistry()
    registry.register(_Shown(tally))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Shown(Collector):
    def __init__(self, tally: Tally) -> None:
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        for name, what, labels, bounds in SPANS.values():
            times = HistogramMetricFamily(name, what, labels=labels)
            for values, parts in self._counted(name, labels):
                times.add_metric(values, _cumulative(parts, bounds), parts.get(SUM, 0.0))
            yield times
        for name, what, labels in COUNTS.values():
            count = CounterMetricFamily(name, what, labels=labels)
            for values, parts in self._counted(name, labels):
                count.add_metric(values, parts.get(TOTAL, 0.0))
            yield count
        for name, what, labels in (LIVE, *LEVELS.values()):
            level = GaugeMetricFamily(name, what, labels=labels)
            for key, height in (self._tally.levels.get(name) or self._tally.views.get(name) or {}).items():
                level.add_metric(_values(key, labels), height)
            yield level

    def _counted(self, name: str, labels: Labels) -> Iterator[tuple[list[str], Parts]]:
        if not labels:  # a count without labels is there from the beginning
            yield [], self._tally.counts.get(name, {}).get(labelled({}), {})
            return
        for key, parts in self._tally.counts.get(name, {}).items():
            yield _values(key, labels), parts


def _values(key: str, labels: Labels) -> list[str]:
    found = labels_of(key)
    return [found.get(label, "") for label in labels]


def _parts(metric: Metric) -> dict[str, Parts]:
    """A counter's or a histogram's series. Prometheus's buckets hold what the ones below do: here each has its own alone."""
    found: dict[str, Parts] = {}
    below = 0.0
    for sample in metric.samples:
        bound = sample.labels.get("le")
        key = labelled({label: value for label, value in sample.labels.items() if label != "le"})
        if key not in found:
            found[key], below = {}, 0.0
        if sample.name.endswith("_total"):
            found[key][TOTAL] = in_steps(sample.value)
        elif sample.name.endswith("_sum"):
            found[key][SUM] = in_steps(sample.value)
        elif bound is not None:
            if sample.value > below:
                found[key][bound] = sample.value - below
            below = sample.value
    return found


def _cumulative(parts: Parts, bounds: tuple[float, ...]) -> list[tuple[str, float]]:
    """The buckets of these bounds, and of those that another release counted by."""
    every = {*map(str, bounds), "+Inf", *parts} - {SUM}
    total, buckets = 0.0, []
    for bound in sorted(every, key=float):
        total += parts.get(bound, 0.0)
        buckets.append((bound, total))
    return buckets
