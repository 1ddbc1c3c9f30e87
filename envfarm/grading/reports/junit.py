"""Reads JUnit XML as pytest writes it (families xunit1 and xunit2) into statuses by `file::class::name[param]`.

Input is hostile: document types (and so entities) are refused; size, depth and the number of elements are bounded; text content is never
kept.
"""

from __future__ import annotations

import re
from xml.parsers import expat

from envfarm.core.outcome import TestStatus
from envfarm.grading.reports.statuses import REPORT_BYTES_MAX, ReportError, worst

DEPTH_MAX = 32
TESTS_MAX = 500_000
ELEMENTS_MAX = 2_000_000
TAG_BYTES_MAX = 4 << 20
"""A larger tag is refused before it is parsed: it might have millions of attributes."""
UNPARSED_BYTES_MAX = 2 * TAG_BYTES_MAX
"""What may wait for a tag's end. Since its 2.6 expat looks for the end again only when it has twice as much as last time."""
CHUNK_BYTES = 1 << 18
RESULTS = frozenset({"failure", "error", "skipped"})
EXPECTED_FAILURE = ("expected test failure", "xfail")
UNEXPECTED_PASS = ("xfail-marked test passes unexpectedly", "[XPASS(strict)]", "Unexpected success")


def read(data: bytes) -> dict[str, TestStatus]:
    """Statuses by id; of several entries for one id the worst counts. Raises `ReportError` with what is wrong."""
    if len(data) > REPORT_BYTES_MAX:
        raise ReportError(f"the report has {len(data)} bytes, more than the {REPORT_BYTES_MAX} allowed")
    if not data.strip():
        raise ReportError("the report is empty")
    reading = _Reading()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        _parse(parser, data)
    except expat.ExpatError as e:
        raise ReportError(f"the report is not well-formed XML: {e}") from e
    except ReportError:  # a ValueError, too
        raise
    except (ValueError, LookupError) as e:
        raise ReportError(f"the report cannot be decoded: {e}") from e
    return reading.statuses


def _parse(parser: expat.XMLParserType, data: bytes) -> None:
    parsed = 0
    for end in range(CHUNK_BYTES, len(data) + CHUNK_BYTES, CHUNK_BYTES):
        parser.Parse(data[end - CHUNK_BYTES : end], end >= len(data))
        parsed = max(parsed, parser.CurrentByteIndex)  # -1 where expat only took the bytes
        if end < len(data) and end - parsed > UNPARSED_BYTES_MAX + CHUNK_BYTES:
            raise ReportError(f"the report has a tag of more than {TAG_BYTES_MAX} bytes")


def _refuse_document_type(*_: object) -> None:
    raise ReportError("the report declares a document type (DTD), which is refused")


class _Reading:
    """The state of one pass over the elements."""

    def __init__(self) -> None:
        self.statuses: dict[str, TestStatus] = {}
        self.elements = 0
        self.depth = 0
        self.case: dict[str, str] | None = None
        self.case_depth = 0
        self.status: TestStatus = "passed"

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        self.depth += 1
        if self.elements > ELEMENTS_MAX:
            raise ReportError(f"the report has more than {ELEMENTS_MAX} elements")
        if self.depth == 1 and name not in ("testsuites", "testsuite"):
            raise ReportError(f"the report's root is <{name[:40]}>, not <testsuites>")
        if self.depth > DEPTH_MAX:
            raise ReportError(f"the report is nested deeper than {DEPTH_MAX}")
        if name == "testcase":
            if self.case is not None:
                raise ReportError("a <testcase> is inside another <testcase>")
            self.case, self.case_depth, self.status = attributes, self.depth, "passed"
        elif self.case is not None and self.depth == self.case_depth + 1 and name in RESULTS:
            self.status = worst(self.status, _status(name, attributes))

    def end(self, _name: str) -> None:
        if self.case is not None and self.depth == self.case_depth:
            test = stable_id(self.case.get("classname", ""), self.case.get("name", ""), self.case.get("file", ""))
            self.statuses[test] = worst(self.statuses.get(test, "passed"), self.status)
            self.case = None
            if len(self.statuses) > TESTS_MAX:
                raise ReportError(f"the report has more than {TESTS_MAX} tests")
        self.depth -= 1


def _status(element: str, attributes: dict[str, str]) -> TestStatus:
    message = attributes.get("message", "")
    if message.startswith(UNEXPECTED_PASS):
        return "xpassed" if element == "skipped" else "failed"
    if element == "skipped":
        expected = attributes.get("type") == "pytest.xfail" or message.startswith(EXPECTED_FAILURE)
        return "xfailed" if expected else "skipped"
    return "error" if element == "error" else "failed"


def stable_id(classname: str, name: str, file: str = "") -> str:
    """The stable id. `classname` is the dotted path of module and classes; `file`, if given, tells where the module's part ends.

    Without `file` (or if it names the file that a test was inherited from) trailing parts with an initial capital are taken for classes.
    """
    file = file.replace("\\", "/")
    if not classname:  # a module that could not be collected: pytest writes the module's dotted name in place of a test's
        return file or (name if name.endswith(".py") or not re.fullmatch(r"[\w.]+", name) else name.replace(".", "/") + ".py")
    module = re.sub(r"\.py$", "", file).replace("/", ".")
    if file and (classname == module or classname.startswith(module + ".")):
        classes = classname[len(module) + 1 :].split(".") if classname != module else []
        return "::".join([file, *classes, name])
    parts = classname.split(".")
    end = len(parts)
    while end > 1 and parts[end - 1][:1].isupper():
        end -= 1
    return "::".join(["/".join(parts[:end]) + ".py", *parts[end:], name])
