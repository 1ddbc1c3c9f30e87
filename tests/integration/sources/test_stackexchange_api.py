"""The Stack Exchange source against a server that misbehaves as the API does."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from envfarm.core.candidate import Rejection
from envfarm.core.errors import SourceError
from envfarm.core.question import Question
from envfarm.testing.question_api import ASKED_AT, QuestionApi, answer, question
from envfarm.testing.scripted_server import Reply, serving
from task_builders.sources import stackexchange_api
from task_builders.sources.source_models import StackexchangeApiSource
from task_builders.sources.stackexchange_client import ApiAccess
from tests.integration.sources.conftest import HeldClock

Outcomes = list[Question | Rejection]
Reader = Callable[..., Outcomes]


@pytest.fixture
def api() -> Iterator[QuestionApi]:
    with serving(QuestionApi()) as server:
        assert isinstance(server, QuestionApi)
        yield server


@pytest.fixture
def read(api: QuestionApi, clock: HeldClock, tmp_path: Path) -> Reader:
    """Reads the source; what was yielded before an error is in the list that was handed in."""

    def reader(outcomes: Outcomes | None = None, key: str = "", **wanted: object) -> Outcomes:
        found = outcomes if outcomes is not None else []
        source = StackexchangeApiSource.model_validate({"base_url": api.url, "tags": ["awk"], **wanted})
        found.extend(stackexchange_api.read(source, tmp_path / "kept", ApiAccess(key=key, patience=clock.patience())))
        return found

    return reader


def fill(api: QuestionApi, count: int, first: int = 1) -> None:
    """Questions with an accepted and another answer."""
    for n in range(first, first + count):
        api.questions.append(question(n, accepted=10_000 + n))
        api.given += [answer(20_000 + n, n, score=9), answer(10_000 + n, n)]


def throttled(seconds: int) -> Reply:
    words = f"too many requests from this IP, more requests available in {seconds} seconds"
    return Reply(400, {"error_id": 502, "error_name": "throttle_violation", "error_message": words})


def test_questions_come_whole_and_attributed(api: QuestionApi, read: Reader) -> None:
    fill(api, 1)
    (found,) = read()
    assert isinstance(found, Question)
    assert [a.id for a in found.answers] == [10_001, 20_001]
    assert found.title == "How & why 1"
    said = found.credit
    assert (said.author, said.author_url, said.licence) == ("Ann & Bo", "https://stackoverflow.com/users/7/ann", "CC-BY-SA-4.0")
    assert (found.url, said.created_at) == ("https://stackoverflow.com/q/1", datetime.fromtimestamp(ASKED_AT + 1, UTC))
    assert "site=stackoverflow" in api.asked[0].path


def test_pages_are_read_to_the_last(api: QuestionApi, read: Reader) -> None:
    fill(api, 250)
    assert len(read()) == 250
    assert sum("/answers" in path for path in api.paths()) == 3 + 2  # two hundred answers a page of questions: two pages each


def test_a_question_with_two_wanted_tags_comes_once(api: QuestionApi, read: Reader) -> None:
    api.questions.append(question(1, accepted=2, tags=["awk", "sed"]))
    api.given.append(answer(2, 1))
    assert len(read(tags=["awk", "sed"])) == 1


def test_a_choice_is_by_score_date_and_number(api: QuestionApi, read: Reader) -> None:
    fill(api, 5)
    api.questions[2]["score"] = 50
    assert [q.url[-1] for q in read(min_score=6)] == ["3"]
    since = datetime.fromtimestamp(ASKED_AT + 4, UTC)
    assert [q.url[-1] for q in read(since=since)] == ["4", "5"]
    assert len(read(limit=2, since=since - timedelta(days=1))) == 2


def test_what_cannot_be_a_record_is_told(api: QuestionApi, read: Reader) -> None:
    fill(api, 1)
    api.questions += [question(2), question(3, accepted=99), question(4, accepted=5)]
    del api.questions[-1]["body"]
    api.given += [answer(5, 4)]
    told = [(r.reason, r.detail) for r in read() if isinstance(r, Rejection)]
    missing = "of 0 answers none is 99"
    assert told == [(stackexchange_api.NO_ACCEPTED_ANSWER, missing), (stackexchange_api.UNREADABLE, "`body` is missing")]


def test_backoff_is_waited_for_by_the_same_method_alone(api: QuestionApi, read: Reader, clock: HeldClock) -> None:
    fill(api, 150)
    api.more = lambda path: {"backoff": 10} if path == "/questions" else {}
    read()
    assert clock.waits == [10]
    assert clock.said[0].startswith("stackoverflow.com questions: page 1")
    assert any("backoff: waiting 10 s" in line for line in clock.said)


def test_a_throttled_request_waits_as_long_as_it_is_told(api: QuestionApi, read: Reader, clock: HeldClock) -> None:
    fill(api, 1)
    api.troubles += [throttled(17), throttled(3)]
    assert len(read()) == 1
    assert clock.waits == [17, 3]


def test_a_ban_that_lasts_for_long_is_an_error_and_not_waited_for(api: QuestionApi, read: Reader, clock: HeldClock) -> None:
    api.troubles.append(throttled(82_216))
    with pytest.raises(SourceError, match="it ends in 82216 s"):
        read()
    assert clock.waits == []


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(500, {"error_id": 500, "error_name": "internal_error", "error_message": "internal"}),
        Reply(400, {"error_id": 503, "error_name": "temporarily_unavailable", "error_message": "temporarily unavailable"}),
        Reply(502, raw=b"<html>bad gateway</html>"),
        Reply(200, raw=b"<html>a captive portal</html>"),
        Reply(200, {"items": []}, cut=5),
        Reply(200, raw=b'{"items": ['),
    ],
)
def test_what_passes_is_asked_for_again(api: QuestionApi, read: Reader, clock: HeldClock, trouble: Reply) -> None:
    fill(api, 1)
    api.troubles += [trouble, trouble]
    assert len(read()) == 1
    assert clock.waits == [1, 2]


def test_what_does_not_pass_is_an_error_after_six_attempts(api: QuestionApi, read: Reader) -> None:
    api.troubles += [Reply(500, {"error_id": 500, "error_message": "internal"})] * 6
    with pytest.raises(SourceError, match="internal, 6 times"):
        read()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error_id": 400, "error_name": "bad_parameter", "error_message": "No site found for name `frob`"}, "No site found"),
        ({"error_id": 403, "error_name": "access_denied", "error_message": "page above 25 requires access token or app key"}, "above 25"),
        ({"error_id": 405, "error_name": "key_required", "error_message": "`key` is required"}, "key"),
        ({"answers": []}, "not an answer of the Stack Exchange API"),
        ({"items": "none"}, "not an answer of the Stack Exchange API"),
    ],
)
def test_a_refusal_is_told_at_once(api: QuestionApi, read: Reader, clock: HeldClock, body: dict[str, object], said: str) -> None:
    api.troubles.append(Reply(400 if "error_id" in body else 200, body))
    with pytest.raises(SourceError, match=said):
        read()
    assert clock.waits == []


def test_the_days_quota_ends_a_run_and_the_next_goes_on_with_what_is_missing(api: QuestionApi, read: Reader) -> None:
    fill(api, 250)
    api.quota = 3
    found: Outcomes = []
    with pytest.raises(SourceError, match="quota of the day") as error:
        read(found)
    assert "STACKEXCHANGE_KEY" in error.value.hint
    assert len(found) == 100
    before = api.paths()
    api.quota = 300
    assert len(read()) == 250
    assert not set(before) & set(api.paths()[len(before) :])


def test_a_later_run_asks_for_the_last_page_alone(api: QuestionApi, read: Reader) -> None:
    fill(api, 150)
    read()
    before = len(api.asked)
    fill(api, 1, first=151)
    assert len(read()) == 151
    later = api.paths()[before:]
    assert ["page=2" in path for path in later if path.startswith("/questions?")] == [True]


def test_the_key_is_sent_and_kept_nowhere(api: QuestionApi, read: Reader, tmp_path: Path) -> None:
    fill(api, 1)
    read(key="s3cret")
    assert all("key=s3cret" in path for path in api.paths())
    assert not any("s3cret" in file.read_text() for file in tmp_path.rglob("*.json"))
    api.troubles.append(Reply(400, {"error_id": 400, "error_message": "bad"}))
    with pytest.raises(SourceError) as error:
        read(key="s3cret", tags=["sed"])
    assert "s3cret" not in f"{error.value} {error.value.hint}"
