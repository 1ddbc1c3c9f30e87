"""Records to candidates and rejections: the split, the order of reasons, and the instruction."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.source import Comment, SourceKind, SourceRecord
from task_builders.candidates import instruction, patch, prose
from task_builders.candidates.make import Limits, make
from task_builders.candidates.split import is_noise, split
from task_builders.sources.path_rules import PathRules
from tests.unit.candidates.conftest import PATCH

Make = Callable[..., SourceRecord]


def candidate(record: SourceRecord, rules: PathRules) -> Candidate:
    outcome = make(record, rules)
    assert isinstance(outcome, Candidate), outcome
    return outcome


def rejection(record: SourceRecord, rules: PathRules, limits: Limits | None = None) -> Rejection:
    outcome = make(record, rules, limits or Limits())
    assert isinstance(outcome, Rejection), outcome
    return outcome


def test_the_fix_is_split_and_its_changelog_left_out(record: Make, rules: PathRules) -> None:
    made = candidate(record(), rules)
    assert made.source_paths == ("src/frob.py",)
    assert made.test_paths == ("tests/test_frob.py",)
    assert "CHANGES" not in made.source_patch + made.test_patch
    assert made.source_digest == record().digest
    assert (made.language, made.licence) == ("madeup", "MIT")


def test_removed_and_moved_tests_are_told(record: Make, rules: PathRules) -> None:
    gone = "diff --git a/tests/old.py b/tests/old.py\ndeleted file mode 100644\n--- a/tests/old.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
    moved = "diff --git a/tests/a.py b/tests/b.py\nsimilarity index 100%\nrename from tests/a.py\nrename to tests/b.py\n"
    made = candidate(record(patch=record().patch + gone + moved), rules)
    assert made.removed_test_paths == ("tests/old.py", "tests/a.py")
    assert made.test_paths == ("tests/test_frob.py", "tests/b.py")


@pytest.mark.parametrize(
    ("changed", "gate", "reason"),
    [
        ({"patch": "@@ -1 +1 @@\n"}, Gate.CANDIDATE, "the patch cannot be read"),
        ({"patch": ""}, Gate.CANDIDATE, "the fix touches no source"),
        ({"patch": PATCH.replace("src/frob.py", "src/frob\udce9.py")}, Gate.CANDIDATE, "a file's name is not UTF-8"),
        ({"title": "Fix #12", "body": "Closes #12"}, Gate.CANDIDATE, "the text says too little"),
        ({"licence": None}, Gate.LICENCE, "the licence is not known"),
        ({"licence": "LicenseRef-Own"}, Gate.LICENCE, "the licence is not known"),
        ({"title": 'Revert "Add the frobnicator to it"', "body_is_issue": False}, Gate.CANDIDATE, "the change reverts another one"),
        ({"author": "tidy[bot]", "body_is_issue": False}, Gate.CANDIDATE, "a bot made the change"),
    ],
)
def test_each_fault_has_its_reason(record: Make, rules: PathRules, changed: dict[str, object], gate: Gate, reason: str) -> None:
    told = rejection(record(**changed), rules)
    assert (told.gate, told.reason) == (gate, reason)
    assert told.source_digest == record(**changed).digest
    assert told.model_dump_json()


@pytest.mark.parametrize(
    "changed",
    [
        {"patch": PATCH.replace("src/frob.py", "news/frob.py")},
        {"title": "解析器在输入为空时崩溃", "body": "应当返回空列表。"},
        {"title": "Auto-fix trailing commas in selected regions", "body_is_issue": False},
        {"author": "Stalevich", "body_is_issue": False},
    ],
)
def test_good_records_are_not_taken_for_chaff(record: Make, rules: PathRules, changed: dict[str, object]) -> None:
    assert "frob.py" in candidate(record(**changed), rules).source_patch


@pytest.mark.parametrize("title", ["Autoformat", "auto-formatting code", "Automatic formatting."])
def test_a_formatters_own_commit_is_a_bots(record: Make, rules: PathRules, title: str) -> None:
    assert rejection(record(title=title, body_is_issue=False), rules).reason == "a bot made the change"


def test_what_a_person_wrote_of_a_squash_stays(record: Make, rules: PathRules) -> None:
    body = "* Rephrase\n\n* Grammar\n\n* fix lint\n\nTreat empty values of all kinds as none."
    text = candidate(record(title="Strip white space", body=body, body_is_issue=False), rules).instruction
    assert "* Grammar" in text
    assert "* Rephrase" in text
    assert "lint" not in text


def test_a_fix_without_tests_or_beyond_the_limits_is_refused(record: Make, rules: PathRules) -> None:
    files = patch.parse(record().patch)
    without_tests = patch.join(f for f in files if not rules.is_test(f.path))
    assert rejection(record(patch=without_tests), rules).reason == "the fix adds nothing to tests"
    assert rejection(record(), rules, Limits(max_source_lines=2)).reason == "the fix is too large for one task"


def test_every_file_is_in_exactly_one_part(record: Make, rules: PathRules) -> None:
    files = patch.parse(record().patch)
    parted = split(files, rules)
    assert sorted([*parted.source, *parted.tests, *parted.left_out], key=files.index) == list(files)


@pytest.mark.parametrize(
    "path", ["docs/index.rst", "CHANGELOG.md", "AUTHORS", ".github/workflows/ci.yml", "newsfragments/1.fix", "PKG-INFO"]
)
def test_documents_and_ci_are_noise(path: str) -> None:
    assert is_noise(path)


@pytest.mark.parametrize(
    "path", ["pyproject.toml", "src/pkg/history.py", "src/docs.py", "src/pkg/data.json", "changes.py", "requirements.txt"]
)
def test_what_a_solution_may_need_is_no_noise(path: str) -> None:
    assert not is_noise(path)


def test_an_instruction_is_cleared_of_forms_trailers_and_persons(record: Make, rules: PathRules) -> None:
    body = (
        "<!-- Please fill in -->\n### What happens\n\nIt keeps spaces, says @someone.\n\n- [x] I read the docs\n- [ ] More\n\n"
        "```py\nfrobnicate(' ')  # <!-- stays -->\n```\n\n### Logs\n\n_No response_\n\nCloses #12\n\nSigned-off-by: A <a@example.com>\n"
    )
    text = candidate(record(body=body), rules).instruction
    assert "It keeps spaces, says someone." in text
    assert "```py\nfrobnicate(' ')  # <!-- stays -->\n```" in text
    for gone in ("Please fill", "[x]", "Logs", "No response", "#12", "Signed-off", "a@example.com"):
        assert gone not in text
    assert text.startswith("The repository in `/testbed`")


def test_code_of_the_fix_in_an_issue_is_left_out_but_a_commit_keeps_its_own(record: Make, rules: PathRules) -> None:
    body = "It should strip.\n\n```\n    normalised = str(value).strip().casefold()\n    return normalised or None\n```\n"
    assert "casefold" not in candidate(record(body=body), rules).instruction
    assert "casefold" in candidate(record(body=body, body_is_issue=False), rules).instruction


def test_remarks_count_if_they_are_early_long_human_and_without_the_fix(record: Make, rules: PathRules) -> None:
    early, late = datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    long = "This also happens with tabs and with line breaks, which nobody expects of a function that frobnicates. "
    comments = (
        Comment(author="ann", body=f"one {long}", created_at=early),
        Comment(author="ann", body=f"two {long}", created_at=late),
        Comment(author="ci[bot]", body=f"three {long}", created_at=early),
        Comment(author="bob", body=f"four {long}\n```diff\n+x\n```", created_at=early),
        Comment(author="bob", body=f"five {long}\n\n    normalised = str(value).strip().casefold()\n", created_at=early),
        Comment(author="bob", body="six: me too", created_at=early),
        Comment(author="bob", body=f"seven {long}"),
    )
    text = candidate(record(comments=comments), rules).instruction
    assert [w for w in ("one", "two", "three", "four", "five", "six", "seven") if re.search(rf"> {w}\b", text)] == ["one"]


def test_a_squash_body_loses_chores_and_its_subject(record: Make, rules: PathRules) -> None:
    bullets = "* Strip white space\n\n* fix lint\n\n* Update changelog\n\n* Treat empty values as none"
    body = f"{bullets}\n\n---------\n\nCo-authored-by: B <b@example.com>"
    text = candidate(record(title="Strip white space (#12)", body=body, body_is_issue=False), rules).instruction
    assert text.count("Strip white space") == 1
    assert "* Treat empty values as none" in text
    for gone in ("lint", "changelog", "-----", "Co-authored"):
        assert gone not in text


def test_a_release_is_told_by_its_notes(record: Make, rules: PathRules) -> None:
    text = candidate(
        record(kind=SourceKind.RELEASES, title="Release 1.1", body="Strip white space of values.", body_is_issue=False), rules
    ).instruction
    assert "notes of its next release" in text
    assert instruction.without_frame(text) == "# Release 1.1\n\nStrip white space of values."


def test_a_text_that_was_cut_in_its_code_is_closed(record: Make, rules: PathRules) -> None:
    text = candidate(record(body="It fails like this, always:\n\n```python\nfrobnicate('"), rules).instruction
    assert "```python\nfrobnicate('\n```\n" in text


def test_bytes_that_are_no_text_survive(record: Make, rules: PathRules) -> None:
    raw = b"\xff\xfe".decode(errors="surrogateescape")
    text = record().patch.replace("+    return normalised", f"+    raw = '{raw}'\n+    return normalised").replace("+1,3 @@", "+1,4 @@")
    assert raw in candidate(record(patch=text), rules).source_patch


@pytest.mark.parametrize(
    "text", ["a\n\n    code\n\nb\n", "- item\n\n    more of it\n", "~~~\nx\n```\n~~~\ny", "> ```\n> x\n> ```\n", "\n\n", "```"]
)
def test_parts_of_prose_join_to_the_text(text: str) -> None:
    assert "".join(p.text for p in prose.parts(text)) == text


def test_indented_code_is_code_and_lists_are_not() -> None:
    assert [p.is_code for p in prose.parts("a:\n\n    code #1234\n\nb")] == [False, True, False]
    assert [p.is_code for p in prose.parts("- a\n\n    more #12\n")] == [False]
