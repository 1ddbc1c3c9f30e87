"""docs/operators.md lists every metric as the code has it, and each alert; the alerts ask for metrics and labels that there are."""

import re
from pathlib import Path

import yaml

from envfarm.telemetry.prometheus import COUNTS, LEVELS, LIVE, SPANS

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/operators.md").read_text().split("\n## Metrics\n")[1].split("\n## ")[0]
RULES = yaml.safe_load((ROOT / "manifests/components/monitoring/rules.yaml").read_text())
KNOWN: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name: ("gauge", labels) for name, _, labels in (LIVE, *LEVELS.values())},
    **{f"{name}_total": ("counter", labels) for name, _, labels in COUNTS.values()},
    **{name: ("histogram", labels) for name, _, labels, _ in SPANS.values()},
}
ALERTS = {rule["alert"]: rule["expr"] for group in RULES["spec"]["groups"] for rule in group["rules"]}


def rows() -> list[list[str]]:
    """The table's cells, without its head."""
    table = [line for line in SECTION.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in table[1:]]


def quoted(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"`([^`]+)`", text))


def asked_for(expr: str) -> list[tuple[str, set[str]]]:
    """The metrics that an alert asks for, as the table has them, each with the labels by which it chooses."""
    found = re.findall(r"(envfarm_\w+?)(?:_bucket|_count|_sum)?(?:\{([^}]*)\}|(?![\w{]))", expr)
    return [(name, set(re.findall(r"(\w+)(?==|!)", chosen))) for name, chosen in found]


def test_every_metric_is_listed_with_its_type_and_labels() -> None:
    listed = {quoted(metric)[0]: (kind, quoted(labels)) for metric, kind, labels, *_ in rows()}
    assert listed == KNOWN
    assert all(meaning for *_, meaning, _ in rows())


def test_every_alert_is_named_beside_a_metric_that_it_asks_for() -> None:
    named = [(quoted(metric)[0], alert) for metric, *_, alert_on in rows() for alert in quoted(alert_on)]
    assert sorted(alert for _, alert in named) == sorted(ALERTS)
    for metric, alert in named:
        assert metric in dict(asked_for(ALERTS[alert])), alert


def test_alerts_ask_for_metrics_and_labels_that_there_are() -> None:
    for alert, expr in ALERTS.items():
        assert asked_for(expr), alert
        for metric, labels in asked_for(expr):
            assert metric in KNOWN, (alert, metric)
            assert labels <= set(KNOWN[metric][1]), (alert, metric)
