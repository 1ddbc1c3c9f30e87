import random

import pytest

from envfarm.core.context_overflow import says_too_long
from envfarm.core.retry import backoff_s, retry_after_s

DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def test_a_wait_is_doubled_from_the_first_to_the_longest() -> None:
    assert [backoff_s(n, first_s=0.5, longest_s=3.0) for n in (1, 2, 3, 4, 10**9)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    spread = random.Random(1)  # noqa: S311 - spreads waits
    waits = [backoff_s(3, first_s=0.5, longest_s=9.0, jitter=spread) for _ in range(50)]
    assert 1.0 <= min(waits) < max(waits) <= 2.0


def test_what_a_server_tells_is_obeyed_up_to_the_longest() -> None:
    assert [backoff_s(1, first_s=0.5, longest_s=3.0, told_s=told_s) for told_s in (0.0, 2.0, 99.0)] == [0.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("told", "date", "seconds"),
    [
        (" 7 ", None, 7.0),
        ("Wed, 21 Oct 2015 07:28:07 GMT", DATE, 7.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", DATE, 0.0),
        ("Wed, 21 Oct 2015 07:28:07 GMT", None, None),
        ("Wed, 21 Oct 2015 07:28:07", DATE, None),
        ("Wed, 21 Oct 99999999999999999999 07:28:07 GMT", DATE, None),
        ("9" * 400, None, float("inf")),
        ("\N{SUPERSCRIPT TWO}", None, None),
        ("soon", DATE, None),
        (None, DATE, None),
    ],
)
def test_retry_after_is_read_where_it_can_be(told: str | None, date: str | None, seconds: float | None) -> None:
    assert retry_after_s(told, date) == seconds


@pytest.mark.parametrize(
    "said",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "Input is too long: the prompt (length 70000) exceeds max_model_len",
        '{"code": "context_length_exceeded"}',
        "The input (9000 tokens) is longer than the model's context length (4096 tokens).",
    ],
)
def test_engines_say_in_their_own_words_that_a_conversation_is_too_long(said: str) -> None:
    assert says_too_long(400, said)
    assert not says_too_long(500, said)


def test_other_refusals_are_not_taken_for_it() -> None:
    assert not says_too_long(400, "temperature must not be negative")
