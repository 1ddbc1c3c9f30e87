"""What a person reads of a build."""

import pytest

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from task_builders.build_display import result_line
from task_builders.journal import ItemRejected

RECORD = digest.of_bytes(b"record")


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("", "too few cases"),
        ("too few cases", "too few cases"),
        ("too few cases\nthe log", "too few cases"),
        ("2 of 9 are decided\nthe log", "too few cases (2 of 9 are decided)"),
        ("x" * 900, f"too few cases ({'x' * 200})"),
    ],
)
def test_a_rejection_is_a_line_that_says_nothing_twice(detail: str, said: str) -> None:
    why = Rejection(source_digest=RECORD, name="asked", url="u", gate=Gate.SUFFICIENCY, reason="too few cases", detail=detail)
    line = result_line(ItemRejected(rejection=why, reached="candidate"))
    assert line == f"{RECORD.removeprefix('sha256:')[:8]} rejected at sufficiency: {said}"
