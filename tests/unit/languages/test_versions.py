"""Which interpreter is chosen, and as of which date."""

from datetime import UTC, datetime

from task_builders.languages.python.versions import choices, minor_of, month_after, month_of

AT_HAND = ("3.6.15", "3.8.18", "3.11.7", "3.12.1", "3.13.0")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_reads_versions_in_their_many_forms() -> None:
    assert [minor_of(v) for v in ("3.11.7", "py310", "3.7-dev", "python3.9", "py313t", "pypy3.9", "2.7", "py27", "3")] == [
        (3, 11), (3, 10), (3, 7), (3, 9), (3, 13), None, None, None, None,
    ]  # fmt: skip


def test_takes_the_newest_named_interpreter_that_had_settled() -> None:
    best = choices(["3.10", "3.11", "3.12"], ">=3.8", at("2023-11-15"), AT_HAND)[0]
    assert (best.version, best.resolved_at) == ("3.11.7", at("2023-11-01"))


def test_an_old_commit_moves_to_an_interpreter_at_hand_and_packages_to_its_time() -> None:
    best = choices(["2.7", "3.4"], "", at("2015-03-01"), AT_HAND)[0]
    assert best.version == "3.6.15"
    assert best.resolved_at == at("2017-06-01")


def test_the_required_range_holds_even_where_nothing_else_is_named() -> None:
    assert {c.minor for c in choices([], ">=3.12", at("2025-06-01"), AT_HAND)} == {(3, 12), (3, 13)}


def test_the_interpreter_that_the_project_develops_with_comes_first() -> None:
    assert choices(["3.13"], "", at("2026-01-01"), AT_HAND, pinned="3.12")[0].version == "3.12.1"


def test_a_missing_interpreter_is_replaced_by_its_neighbour() -> None:
    best = choices(["3.9"], ">=3.7", at("2021-06-01"), ("3.8.18", "3.13.0"))[0]
    assert best.version == "3.8.18"
    assert "nearest" in best.why


def test_commits_of_one_month_share_a_date() -> None:
    assert month_of(at("2020-12-02")) == month_of(at("2020-12-31")) == at("2020-12-01")
    assert month_after(at("2020-12-01")) == at("2021-01-01")
    assert month_after(at("2020-11-30")) == at("2020-12-01")
