"""Gates that compare candidates with each other or with lists: licences, duplicates, decontamination."""

from collections.abc import Callable
from pathlib import Path

import pytest

from envfarm.core.candidate import Candidate
from envfarm.core.errors import UsageError
from envfarm.core.source import SourceRecord
from envfarm.core.task import Attribution
from envfarm.testing.factories import make_task
from task_builders.candidates.decontamination import Decontamination, fingerprint, from_lines, read_lists, to_lines
from task_builders.candidates.dedup import Duplicates, minhash, patch_hash, similarity
from task_builders.candidates.licence import Terms, terms
from task_builders.candidates.make import make
from task_builders.sources.path_rules import PathRules

STORY = (
    "When the frobnicator meets a value that holds nothing but white space it hands the value back as it is, although the manual says "
    "that such values count as absent and that callers may rely on it wherever they look for defaults in their own settings. The same "
    "holds for tabs and for line breaks, in the first argument as in the second, and it has been so since the very first release, which "
    "makes it hard to believe that nobody ran into it before."
)


@pytest.fixture
def candidate(record: Callable[..., SourceRecord], rules: PathRules) -> Callable[..., Candidate]:
    def made(**changed: object) -> Candidate:
        outcome = make(record(**{"body": STORY, **changed}), rules)
        assert isinstance(outcome, Candidate)
        return outcome

    return made


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", Terms.PERMISSIVE),
        ("mit", Terms.PERMISSIVE),
        ("GPL-3.0-or-later", Terms.COPYLEFT),
        ("MIT AND GPL-2.0-only", Terms.COPYLEFT),
        ("MIT OR GPL-2.0-only", Terms.PERMISSIVE),
        ("(MIT OR Apache-2.0) AND (BSD-3-Clause OR MPL-2.0)", Terms.PERMISSIVE),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Terms.COPYLEFT),
        ("MIT AND LicenseRef-Ours", Terms.UNKNOWN),
        ("LicenseRef-Ours OR MIT", Terms.PERMISSIVE),
        ("BUSL-1.1", Terms.UNKNOWN),
        ("do what you like", Terms.UNKNOWN),
        ("", Terms.UNKNOWN),
        (None, Terms.UNKNOWN),
    ],
)
def test_terms_of_expressions(expression: str | None, expected: Terms) -> None:
    assert terms(expression) is expected


def test_the_first_of_two_equal_changes_stays(candidate: Callable[..., Candidate]) -> None:
    seen = Duplicates()
    assert seen.check(candidate()) is None
    again = candidate(url="https://elsewhere.example/1", title="Quite another title", body="Words of its own that tell the matter well.")
    told = seen.check(again)
    assert told is not None
    assert (told.reason, told.detail) == ("the same change was seen before", candidate().url)


def test_a_change_is_the_same_wherever_it_stands(candidate: Callable[..., Candidate]) -> None:
    one = candidate().source_patch
    moved = one.replace("@@ -1,2 +1,3 @@", "@@ -101,2 +205,3 @@").replace("1111111..2222222", "3333333..4444444")
    assert patch_hash(moved) == patch_hash(one)
    assert patch_hash(one.replace("casefold", "lower")) != patch_hash(one)


def test_nearly_equal_words_are_found_and_short_ones_are_not_compared(candidate: Callable[..., Candidate]) -> None:
    seen = Duplicates()
    assert seen.check(candidate()) is None
    other_patch = candidate().source_patch.replace("casefold", "lower")
    near = candidate().model_copy(
        update={"source_patch": other_patch, "instruction": candidate().instruction.replace("manual", "handbook")}
    )
    assert (told := seen.check(near)) is not None
    assert told.reason == "nearly the same words were seen before"
    short = candidate(title="Fix it", body="Fix the error message").model_copy(update={"source_patch": other_patch})
    assert seen.check(short) is None
    assert seen.check(short.model_copy(update={"source_patch": other_patch.replace("lower", "upper")})) is None


def test_minhash_estimates_likeness() -> None:
    words = [f"word{n}" for n in range(200)]
    half = words[:100] + [f"other{n}" for n in range(100)]
    assert similarity(minhash(" ".join(words)), minhash(" ".join(words))) == 1
    assert 0.15 < similarity(minhash(" ".join(words)), minhash(" ".join(half))) < 0.55
    assert similarity(minhash(" ".join(words)), minhash("nothing in common with the other text at all")) < 0.05


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, "a benchmark has this change"),
        ({"fix_commit": "c3" * 20}, "a benchmark has this change"),
        ({"fix_commit": "c3" * 20, "source_patch": ""}, "a benchmark has this issue"),
        ({"fix_commit": "c3" * 20, "source_patch": "", "url": "https://elsewhere.example/"}, "a benchmark has these words"),
    ],
)
def test_a_listed_task_is_known_by_each_of_its_marks(candidate: Callable[..., Candidate], changed: dict[str, str], reason: str) -> None:
    lines = list(to_lines([fingerprint("bench", candidate())]))
    known = Decontamination(from_lines(lines, "list"))
    told = known.check(candidate().model_copy(update=changed))
    assert told is not None
    assert (told.reason, told.evidence["set"]) == (reason, "bench")


@pytest.mark.parametrize(
    ("patch", "url", "instruction", "found"),
    [
        (True, "https://elsewhere.example/", "", "a benchmark has this change: bench"),
        (False, "https://forge.example/acme/frob/commit/" + "c3" * 20, "", "a benchmark has this change: bench"),
        (False, "https://forge.example/acme/frob/issues/77", "", "a benchmark has this issue: bench"),
        (False, "https://elsewhere.example/", "the listed one's", "a benchmark has these words: bench"),
        (False, "https://elsewhere.example/", "", "none of 1 fingerprints matches: bench (1)"),
    ],
)
def test_a_task_without_its_record_is_compared_as_well(
    candidate: Callable[..., Candidate], *, patch: bool, url: str, instruction: str, found: str
) -> None:
    listed = candidate(fix_commit="c3" * 20, url="https://forge.example/acme/frob/issues/77")
    task = make_task(
        instruction=listed.instruction if instruction else "Make `add` add.",
        attribution=Attribution(licence="MIT", url=url),
        solution={"solve.sh": b"", **({"patch.diff": listed.source_patch.encode()} if patch else {})},
    )
    result = Decontamination([fingerprint("bench", listed)]).judge(task)
    assert (result.detail, result.passed) == (found, "matches" in found)


def test_a_list_of_tasks_keeps_out_the_candidate_that_they_came_of(candidate: Callable[..., Candidate]) -> None:
    known = candidate(fix_commit="c3" * 20, url="https://forge.example/acme/frob/issues/77")
    task = make_task(
        instruction=known.instruction,
        attribution=Attribution(licence="MIT", url=known.url),
        solution={"solve.sh": b"", "patch.diff": known.source_patch.encode()},
    )
    of_task = fingerprint("bench", task)
    assert of_task == fingerprint("bench", known.model_copy(update={"name": "acme/frob", "fix_commit": ""}))
    assert Decontamination([of_task]).check(known) is not None


def test_tasks_without_a_patch_have_no_patch_in_common(candidate: Callable[..., Candidate]) -> None:
    listed = candidate(url="https://forge.example/1", fix_commit="", title="Sort words", body="Sort the words of each line.")
    other = candidate(url="https://forge.example/2", fix_commit="", title="Count words", body="How often is each word there?")
    known = Decontamination([fingerprint("bench", listed.model_copy(update={"source_patch": ""}))])
    assert known.check(other.model_copy(update={"source_patch": ""})) is None


def test_a_neighbour_of_a_listed_task_passes(candidate: Callable[..., Candidate]) -> None:
    known = Decontamination([fingerprint("bench", candidate())])
    other = candidate(
        url="https://forge.example/acme/frob/issues/13",
        fix_commit="d4" * 20,
        title="Another matter",
        body="Of the same repository and base, told in words of its own, about a thing that has no part in the other one.",
    )
    assert known.check(other.model_copy(update={"source_patch": other.source_patch.replace("casefold", "lower")})) is None


def test_the_list_holds_no_text(candidate: Callable[..., Candidate]) -> None:
    assert "frobnicator" not in "".join(to_lines([fingerprint("bench", candidate())]))


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "not a list"),
        (["[]"], "not a list"),
        (['{"format": "envfarm-fingerprints", "version": 9}'], "not a list"),
        (['{"format": "envfarm-fingerprints", "version": 1}', "", '{"numbers": [1]}'], "list:3: set"),
        (['{"format": "envfarm-fingerprints", "version": 1}', "{"], "list:2"),
    ],
)
def test_a_broken_list_is_refused_by_line(lines: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        list(from_lines(lines, "list"))


def test_a_report_says_with_how_much_a_task_was_compared(candidate: Callable[..., Candidate], tmp_path: Path) -> None:
    assert Decontamination().compared == "no list of fingerprints was given: nothing was compared"
    for name, count in (("some", 2), ("other", 1)):
        (tmp_path / name).write_text("\n".join(to_lines([fingerprint(name, candidate())] * count)))
    known = Decontamination(read_lists([tmp_path / "some", tmp_path / "other"]))
    assert known.compared == "none of 3 fingerprints matches: other (1), some (2)"
    assert known.check(candidate()) is not None


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        list(read_lists([tmp_path / "absent.jsonl"]))
