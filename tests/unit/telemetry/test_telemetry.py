"""What a farm tells of itself: scraped with Prometheus' own parser, received by a collector over real HTTP, read from log lines."""

import asyncio
import json
import logging
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from envfarm.core import digest
from envfarm.core.image import BlobRef
from envfarm.core.sandbox import BoxStats, SandboxSpec
from envfarm.core.tally import OTHER, Tally, labelled
from envfarm.core.usage import Bill, of_box
from envfarm.telemetry.logs import JsonLines, LoggingObserver, TextLines
from envfarm.telemetry.prometheus import MOST_VALUES, PrometheusObserver, page_of
from envfarm.telemetry.together import Together
from envfarm.telemetry.tracing import TracingObserver
from envfarm.testing.factories import make_environment


def samples(page: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in text_string_to_metric_families(page) for s in f.samples}


def test_ids_never_become_labels_and_labels_have_a_bound() -> None:
    metrics = PrometheusObserver()
    for n in range(MOST_VALUES + 7):
        with metrics.span("episode", episode=f"ep-{n}", run="run-1", tenant="a") as span:
            span.note(kind="scored", cause="")
        metrics.count("usage", 2.0, tenant=f"t{n}", resource="cpu_used_s")
    page = page_of(metrics.tally())[0].decode()
    found = samples(page)
    assert "ep-" not in page
    assert "run-1" not in page
    assert found["envfarm_episode_seconds_count", (("cause", ""), ("error", ""), ("kind", "scored"))] == MOST_VALUES + 7
    assert found["envfarm_usage_total", (("resource", "cpu_used_s"), ("tenant", OTHER))] == 14.0


def test_what_goes_on_is_live_and_an_error_is_told() -> None:
    metrics = PrometheusObserver()
    live = ("envfarm_live", (("what", "create"),))

    def fail() -> None:
        with metrics.span("create", sandbox="local", purpose="agent"):
            assert samples(page_of(metrics.tally())[0].decode())[live] == 1
            raise OSError("no box")

    with pytest.raises(OSError, match="no box"):
        fail()
    found = samples(page_of(metrics.tally())[0].decode())
    assert found[live] == 0
    assert found["envfarm_box_create_seconds_count", (("error", "OSError"), ("purpose", "agent"), ("sandbox", "local"))] == 1


def test_a_process_without_an_api_shows_its_own_metrics() -> None:
    metrics = PrometheusObserver()
    metrics.shift("boxes", 3, purpose="agent")
    port, server = metrics.serve("127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert samples(answer.read().decode())["envfarm_boxes", (("purpose", "agent"),)] == 3
    finally:
        server.shutdown()
        server.server_close()


def test_pages_of_several_processes_add_up_as_one_process_would_have_counted() -> None:
    one, first, second = (PrometheusObserver() for _ in range(3))
    for n, part in enumerate((first, second, first)):
        for metrics in (one, part):
            metrics.count("usage", 0.5 + n, tenant="a", resource="cpu_used_s")
            metrics.count("lease lost")
            metrics.shift("boxes", 2, purpose="agent")
            metrics.level("queue", n, state="pending")
            metrics._spans["exec"].labels(tool="bash", error="").observe(2.0**n / 8)
    whole = first.tally().plus(second.tally())
    assert samples(page_of(whole)[0].decode()) == samples(page_of(one.tally())[0].decode()) | {
        ("envfarm_queue_episodes", (("state", "pending"),)): 1.0  # as the second said it
    }


def test_what_is_told_of_the_farm_is_what_a_scrape_of_the_process_would_say() -> None:
    metrics = PrometheusObserver()
    with metrics.span("create", sandbox="local", purpose="agent"):
        metrics.count("retry", cause="sandbox")
    for seconds in (0.0005, 0.03, 0.03, 7.0, 400.0):
        metrics._spans["think"].labels(policy="nop", error="").observe(seconds)
    metrics.level("queue", 3, state="pending")
    metrics.level("groups", 2)
    scraped = {key: n for key, n in samples(generate_latest(metrics._registry).decode()).items() if not key[0].endswith("_created")}
    told = samples(page_of(metrics.tally())[0].decode())
    exact = {key for key in scraped if not key[0].endswith("_sum")}
    assert {key: told[key] for key in exact} == {key: scraped[key] for key in exact}
    assert all(0 <= scraped[key] - told[key] < 0.001 for key in scraped.keys() - exact)
    assert told.keys() == scraped.keys()


def test_a_process_that_never_looked_says_no_level_of_the_farm() -> None:
    looked, fresh = PrometheusObserver(), PrometheusObserver()
    looked.level("groups", 5)
    page = page_of(looked.tally().plus(fresh.tally()))[0].decode()
    assert samples(page)["envfarm_ready_groups", ()] == 5


def test_buckets_that_only_another_release_has_are_shown_between_the_others() -> None:
    older = Tally(counts={"envfarm_exec_seconds": {labelled({"tool": "bash", "error": ""}): {"0.07": 2.0, "0.1": 1.0, "+Inf": 1.0}}})
    found = samples(page_of(older)[0].decode())
    buckets = {dict(labels)["le"]: n for (name, labels), n in found.items() if name == "envfarm_exec_seconds_bucket"}
    assert (buckets["0.05"], buckets["0.07"], buckets["0.1"], buckets["300.0"], buckets["+Inf"]) == (0, 2, 3, 3, 4)
    assert page_of(Tally(counts={"envfarm_of_tomorrow": {"{}": {"total": 1.0}}})) == page_of(Tally())


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    got: list[Any] = []

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest()
            request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
            got.extend(s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Takes)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_trace_goes_on_in_another_process() -> None:
    with collector() as (url, got):
        asking, playing = (TracingObserver(OTLPSpanExporter(endpoint=url)) for _ in range(2))
        with asking.span("rollout", kind="rollout") as rollout:
            handed_on = rollout.traceparent
        with playing.span("episode", within=handed_on, episode="e1"), playing.span("grade"):
            pass
        asking.close()
        playing.close()
    spans = {s.name: s for s in got}
    assert set(spans) == {"rollout", "episode", "grade"}
    assert len({s.trace_id for s in got}) == 1
    assert spans["episode"].parent_span_id == spans["rollout"].span_id
    assert spans["grade"].parent_span_id == spans["episode"].span_id
    assert {a.key: a.value.string_value for a in spans["episode"].attributes} == {"envfarm.episode": "e1"}


async def test_log_lines_say_which_episode_they_are_about() -> None:
    observer = Together((LoggingObserver(),))
    record = logging.LogRecord("envfarm.x", logging.WARNING, "x.py", 1, "slow", (), None)
    lines: dict[str, dict[str, str]] = {}

    async def play(episode: str) -> None:
        with observer.span("episode", episode=episode, tenant="a"):
            await asyncio.sleep(0)
            lines[episode] = json.loads(JsonLines().format(record))

    await asyncio.gather(play("e1"), play("e2"))
    assert [(lines[e]["episode"], lines[e]["tenant"], lines[e]["level"]) for e in ("e1", "e2")] == [
        ("e1", "a", "warning"),
        ("e2", "a", "warning"),
    ]
    assert "episode" not in json.loads(JsonLines().format(record))
    with observer.span("exec", episode="e3"):
        assert TextLines("%(message)s").format(record) == "slow episode=e3"


def test_a_box_is_believed_up_to_what_it_was_granted() -> None:
    spec = SandboxSpec(environment=make_environment(), cpus=2.0, memory_mib=1024)
    bill = Bill()
    bill.add(of_box(spec, 10.0, BoxStats(cpu_s=5.0, memory_peak_bytes=1 << 29)))
    bill.add(of_box(spec, 10.0, BoxStats(cpu_s=1e9, memory_peak_bytes=1 << 40)))
    bill.add(of_box(spec, 10.0, None))
    total = bill.total
    assert (total.boxes, total.unmeasured, total.cpu_used_s, total.cpu_granted_s) == (3, 1, 25.0, 60.0)
    assert (total.memory_granted_gib_s, total.memory_peak_gib_s) == (30.0, 15.0)
    assert total.idle_share == pytest.approx(1 - 25 / 60)


def test_of_an_adopted_box_only_what_it_used_since_is_billed() -> None:
    checkout = BlobRef(digest=digest.of_bytes(b"c"), size_bytes=100)
    spec = SandboxSpec(environment=make_environment(checkout=checkout), cpus=2.0)
    before, after = BoxStats(cpu_s=600.0), BoxStats(cpu_s=607.0)
    first, second = of_box(spec, 400.0, before), of_box(spec, 10.0, after, adopted=before)
    both = first.plus(second)
    assert (both.boxes, both.pulled_bytes, both.cpu_used_s, both.box_s) == (1, 100, 607.0, 410.0)


def test_nothing_is_imported_of_a_room_that_is_off(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415 - this test's alone
    import sys  # noqa: PLC0415 - see above

    code = "import sys, envfarm.wiring_telemetry; print('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip() == "False"
