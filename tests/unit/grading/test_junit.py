import pytest

from envfarm.grading import reports
from envfarm.grading.reports import ReportError, pytest_log
from envfarm.grading.reports.junit import DEPTH_MAX, ELEMENTS_MAX, TAG_BYTES_MAX, UNPARSED_BYTES_MAX, read, stable_id


def suite(*cases: str) -> bytes:
    return f'<?xml version="1.0"?><testsuites><testsuite name="pytest">{"".join(cases)}</testsuite></testsuites>'.encode()


def case(inner: str = "", name: str = "test_a", classname: str = "tests.test_x", file: str = "tests/test_x.py") -> str:
    return f'<testcase classname="{classname}" name="{name}" file="{file}">{inner}</testcase>'


ID = "tests/test_x.py::test_a"


@pytest.mark.parametrize(
    ("inner", "status"),
    [
        ("", "passed"),
        ('<failure message="assert 0">long text</failure>', "failed"),
        ('<error message="failed on setup"/>', "error"),
        ('<skipped type="pytest.skip" message="no"/>', "skipped"),
        ('<skipped type="pytest.xfail" message="why"/>', "xfailed"),
        ('<skipped message="expected test failure"/>', "xfailed"),
        ('<failure message="[XPASS(strict)] why"/>', "failed"),
        ('<skipped message="xfail-marked test passes unexpectedly"/>', "xpassed"),
        ("<system-out>&lt;failure/&gt;</system-out>", "passed"),
        ("<properties><property name='failure' value='1'/></properties>", "passed"),
        ('<failure message="a"/><error message="teardown"/>', "error"),
    ],
)
def test_a_result_becomes_a_status(inner: str, status: str) -> None:
    assert read(suite(case(inner))) == {ID: status}


def test_the_worst_of_two_entries_counts() -> None:
    failing = case('<failure message="x"/>')
    assert read(suite(failing, case())) == {ID: "failed"}
    assert read(suite(case(), failing)) == {ID: "failed"}


@pytest.mark.parametrize(
    ("classname", "name", "file", "expected"),
    [
        ("tests.test_x", "test_a[1-b.c]", "tests/test_x.py", "tests/test_x.py::test_a[1-b.c]"),
        ("tests.test_x.TestA.TestB", "test_a", "tests/test_x.py", "tests/test_x.py::TestA::TestB::test_a"),
        ("tests.test_x.TestA", "test_a", "", "tests/test_x.py::TestA::test_a"),
        ("tests.v1.test_x", "test_a", "", "tests/v1/test_x.py::test_a"),
        ("tests.v1.2.test_x.lower", "test_a", "tests/v1.2/test_x.py", "tests/v1.2/test_x.py::lower::test_a"),
        ("tests.test_x.TestA", "test_inherited", "lib/shared.py", "tests/test_x.py::TestA::test_inherited"),
        ("", "tests.test_broken", "", "tests/test_broken.py"),
        ("tests.test_x", "test_a", "tests\\test_x.py", "tests/test_x.py::test_a"),
    ],
)
def test_ids_are_stable(classname: str, name: str, file: str, expected: str) -> None:
    assert stable_id(classname, name, file) == expected


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE testsuites [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    b"<testsuites><testcase name='&b;'/></testsuites>"
)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (BOMB, "document type"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><testsuites/>', "document type"),
        (suite(case())[:-20], "well-formed"),
        (b"<html/>", "root"),
        (b"<testsuites/>trailing", "well-formed"),
        (b"\xff\xfe\x00", "well-formed"),
        (b"<testsuites>" + b"<a>" * DEPTH_MAX + b"</a>" * DEPTH_MAX + b"</testsuites>", "nested"),
        (suite("<testcase name='a'><testcase name='b'/></testcase>"), "inside another"),
        (b'<?xml version="1.0" encoding="no-such"?><testsuites/>', "unknown encoding"),
    ],
)
def test_a_report_that_cannot_be_believed_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ReportError, match=why):
        read(data)


@pytest.mark.parametrize(
    ("element", "count", "why"),
    [
        (b"<a/>", ELEMENTS_MAX, "elements"),
        (b"<a b='" + b"x" * (UNPARSED_BYTES_MAX + (1 << 20)) + b"'/>", 1, "tag"),
        (b"<a " + b" ".join(b"a%d=''" % n for n in range(900_000)) + b"/>", 1, "tag"),
        (b"<!--" + b"x" * (UNPARSED_BYTES_MAX + (1 << 20)) + b"-->", 1, "tag"),
    ],
    ids=["elements", "a long attribute", "attributes", "a comment"],
)
def test_a_report_costs_no_more_than_what_runners_write(element: bytes, count: int, why: str) -> None:
    with pytest.raises(ReportError, match=rf"^the report has .*{why}"):
        read(b"<testsuites>" + element * count)


def test_long_texts_of_a_test_are_read_over() -> None:
    lines = "a line\n" * (1 << 20)
    text = f"<system-out>{'x' * (2 * TAG_BYTES_MAX)}</system-out><system-err>{lines}</system-err>"
    message = f"<failure message='{'m' * (TAG_BYTES_MAX - 1000)}'><![CDATA[{'y' * (2 * TAG_BYTES_MAX)}]]></failure>"
    assert read(suite(case(text), case(message, name="test_b"))) == {ID: "passed", "tests/test_x.py::test_b": "failed"}


@pytest.mark.parametrize("end", pytest_log.LINE_ENDS)
def test_a_log_has_no_more_lines_than_are_read(end: bytes) -> None:
    assert len(b"a".join([end] * 3).decode().splitlines()) == 3
    with pytest.raises(ReportError, match="lines"):
        pytest_log.read(end * (pytest_log.LINES_MAX + 1))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ReportError, match="tea leaves"):
        reports.read("tea leaves", b"")


def test_the_printed_summary_is_read() -> None:
    log = b"noise\nPASSED tests/test_x.py::test_a\nFAILED tests/test_x.py::test_b - assert 0\nFAILED tests/test_x.py::test_a\n"
    assert reports.read("pytest_log", log) == {"tests/test_x.py::test_a": "failed", "tests/test_x.py::test_b": "failed"}
