"""The pages link to what is there, the index of decisions lists each once, and the authors' guide knows every gate and its reasons."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from envfarm.core.candidate import Gate

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADRS = ROOT / "docs/adr"
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def dead_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", page.read_text())):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert list(dead_links(page)) == []


def test_the_index_lists_every_decision_once_by_its_number_and_title() -> None:
    listed = re.findall(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+?) \| \S.* \|$", (ADRS / "README.md").read_text(), re.MULTILINE)
    decisions = [path for path in ADRS.glob("*.md") if path.name != "README.md"]
    headings = {path.name: path.read_text().partition("\n")[0] for path in decisions}
    assert sorted((name, f"# {number}. {title}") for number, name, title in listed) == sorted(headings.items())


def test_the_authors_guide_explains_every_gate_by_reasons_that_the_code_gives() -> None:
    questions, reasons = (ROOT / "docs/task-authors.md").read_text().split("\n## The gates")[1].split("\n## ")[0].split("\n### ")
    asked = re.findall(r"^\| `([^`]+)` \| [^|]+ \|$", questions, re.MULTILINE)
    explained = re.findall(r"^\| (?:`([^`]+)`|any) \| ([^|]+) \| [^|]+ \|$", reasons, re.MULTILINE)
    assert sorted(asked) == sorted(Gate)
    assert {gate for gate, _ in explained if gate} == set(Gate)
    code = "".join(path.read_text() for path in (ROOT / "task_builders").rglob("*.py"))
    assert [reason for _, reason in explained if f'"{reason.removesuffix("…")}' not in code] == []
