"""The attempt ledger: survives crashes, is shared by builds, and is counted for the report."""

from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import StoreError
from task_builders import report
from task_builders.attempt_ledger import AttemptLedger
from task_builders.environment_attempts import Attempt


def attempt(result: str = "works", rung: str = "rung 1", **changed: object) -> Attempt:
    some = digest.of_bytes(b"recipe")
    known = {"repository": "acme/rockets", "recipe": some, "layer": some, "language": "python", "sandbox": "local", "why": rung}
    return Attempt.model_validate({**known, "rung": rung, "result": result, "seconds": 30.0, **changed})


def test_a_torn_line_is_left_out_and_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "tries.jsonl"
    assert list(AttemptLedger(path).read()) == []
    AttemptLedger(path).append(attempt())
    with path.open("ab") as file:
        file.write(b'{"repository": "acme/ro')
    assert list(AttemptLedger(path).read()) == [attempt()]
    AttemptLedger(path).append(attempt("build"))
    assert [a.result for a in AttemptLedger(path).read()] == ["works", "build"]
    path.write_bytes(b"torn from the first")
    AttemptLedger(path).append(attempt())
    assert list(AttemptLedger(path).read()) == [attempt()]


def test_a_whole_line_that_is_no_try_is_told_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "tries.jsonl"
    AttemptLedger(path).append(attempt())
    with path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(StoreError, match=r"tries\.jsonl:2: not a try"):
        list(AttemptLedger(path).read())


def test_tries_are_counted_by_where_the_search_began() -> None:
    tries = [
        attempt("lock", "rung 1"),
        attempt("works", "rung 1", why="a rule", layer_bytes=3 << 20),
        attempt("works", "worked for another commit", layer_bytes=3 << 20, layer_reused=True),
        attempt("tests", "rung 1", sandbox="docker"),
    ]
    found = report.Yield(rows=(), rejected=(), tries=report.tries_of(tries))
    assert report.try_rows(found) == [
        ("python", "docker", "rung 1", 1, 0, 0, 0, 1, 0.5, 0.0),
        ("python", "local", "rung 1", 2, 1, 1, 0, 0, 1.0, 3.0),
        ("python", "local", "worked for another commit", 1, 1, 0, 0, 0, 0.5, 0.0),
    ]
    assert "| python | docker | rung 1 | 1 | 0 |" in report.yield_markdown(found)
