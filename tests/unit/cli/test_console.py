"""Tables on terminals of any width. What is piped is tab-separated, and is looked at in the integration tests."""

import pytest
from rich.console import Console

from envfarm.cli import console

COLUMNS = ("episode", "task", "outcome", "why")
ROWS = [("run-1.aaaa.0000", "acme/shelf-1", "1", "All 9 expected tests pass."), ("run-1.aaaa.0001", "acme/shelf-1", "0", "")]


def shown(monkeypatch: pytest.MonkeyPatch, width: int, *, cut: bool = False) -> list[str]:
    terminal = Console(force_terminal=True, no_color=True, width=width, highlight=False, soft_wrap=True, color_system=None)
    monkeypatch.setattr(console, "out", terminal)
    with terminal.capture() as captured:
        console.table("", COLUMNS, ROWS, cut=cut)
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_wide_terminal_has_a_line_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    heading, first, second = shown(monkeypatch, 100)
    assert heading.split() == list(COLUMNS)
    assert first.endswith("All 9 expected tests pass.")
    assert second.split() == ["run-1.aaaa.0001", "acme/shelf-1", "0"]


def test_where_the_last_column_has_no_room_it_stands_below(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 50) == [
        "episode          task          outcome",
        "run-1.aaaa.0000  acme/shelf-1  1",
        "    All 9 expected tests pass.",
        "run-1.aaaa.0001  acme/shelf-1  0",
    ]


def test_a_last_column_that_may_be_cut_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = shown(monkeypatch, 64, cut=True)
    assert [line[40:] for line in wide] == ["why", "All 9 expected tests pa…", ""]
    assert shown(monkeypatch, 50, cut=True) == shown(monkeypatch, 50)
    assert shown(monkeypatch, 41, cut=True)[2] == "    All 9 expected tests pass."
    assert shown(monkeypatch, 30, cut=True)[3] == "  why: All 9 expected tests p…"


def test_a_narrow_terminal_has_a_block_for_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 30)[:3] == ["run-1.aaaa.0000", "  task: acme/shelf-1", "  outcome: 1"]
