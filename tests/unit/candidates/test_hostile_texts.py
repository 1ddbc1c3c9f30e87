"""Strangers write issue texts: no text may make a regular expression run for minutes."""

import time
from collections.abc import Callable

import pytest

from envfarm.core.source import SourceRecord
from task_builders.candidates import instruction, prose
from task_builders.candidates.identifiers import find_ids
from task_builders.candidates.upstream import Upstream
from task_builders.sources import changelog, licence_detection, linking

LENGTH = 20_000
PIECES = [
    " ",
    "\n",
    "\n ",
    "\t",
    "a",
    "a1",
    "-",
    "`",
    "` ",
    "(",
    "[",
    "[a](",
    "<!--",
    "<img ",
    "fixes ",
    "#1, ",
    "fixes #1 and ",
    "issue ",
    "@a-",
    "@abc, ",
]
WITH_TAIL = ["fixes{}x", "fixes issue{}", "#1{}x", "# a{}b", "see{}#1", "someone{}"]


@pytest.mark.parametrize(
    "text", [*(p * (LENGTH // len(p)) for p in PIECES), *(t.format(" " * LENGTH) for t in WITH_TAIL)], ids=lambda t: repr(t[:20])
)
def test_long_runs_cost_little(text: str) -> None:
    upstream = Upstream("acme/frob", ("c0ffee1234567890c0ffee1234567890c0ffee12",))
    started = time.process_time()
    instruction.told(text, upstream, frozenset({"a distinctive line of the fix"}))
    find_ids(text, upstream)
    linking.closing_references(text)
    changelog.section(text, "1.0")
    licence_detection.of_text(text)
    assert time.process_time() - started < 1.5  # quadratic patterns took from 4 to 30 seconds


@pytest.mark.parametrize("mark", ["`", "~"])
def test_a_run_of_fence_marks_is_read_once(record: Callable[..., SourceRecord], mark: str) -> None:
    run = mark * 2_000_000
    assert prose.without_comments(f"{run}<!-- a -->{mark}") == f"{run}{mark}"
    assert instruction.upstream_of(record(body=f"{run}@property {run}")).decorators >= ({"property"} if mark == "`" else set())


def test_fences_of_any_length_keep_their_comments() -> None:
    text = "````\n```\n<!-- a -->\n````\n<!-- b -->~~~ x\n<!-- c -->\n~~~\n  `````\n<!-- d -->"
    assert prose.without_comments(text) == text.replace("<!-- b -->", "").replace("<!-- c -->", "")
