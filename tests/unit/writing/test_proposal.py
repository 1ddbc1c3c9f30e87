"""What counts as a proposal: the writer's text is untrusted."""

import json
from typing import Any

import pytest

from task_builders.terminal.giveaways import TO_WRITE
from task_builders.writing.proposal import MAX_ANSWER, MAX_TEXT, NotValid, Proposal, Refusal, parse
from tests.unit.writing.proposals import GOOD


def parsed(**changes: Any) -> Proposal | Refusal:
    return parse(json.dumps(GOOD | changes))


def test_a_proposal_is_found_in_the_text_around_it() -> None:
    found = parse(f"<think>{{not this}}</think>Here:\n```json\n{json.dumps(GOOD)}\n```")
    assert isinstance(found, Proposal)
    assert found.files == GOOD["files"]
    assert found.relation == "lines"
    assert parse('{"refusal": "it is about a service"}') == Refusal(refusal="it is about a service")


def test_links_are_left_out_of_the_instruction() -> None:
    found = parsed(instruction=GOOD["instruction"] + " See https://example.org/q/1 for more.")
    assert isinstance(found, Proposal)
    assert "example.org" not in found.instruction


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {"../x": "1"}}, "files"),
        ({"files": {"a/b": "1"}}, "files"),
        ({"files": {".bashrc": "1"}}, "files"),
        ({"files": {"solve": "1"}}, "name of a program"),
        ({"files": {f"{n}.txt": "1" for n in range(5)}}, "at most 4"),
        ({"files": {"stock.txt": "x" * (MAX_TEXT + 1)}}, "at most 8000"),
        ({"files": {"stock.txt": "a\0b"}}, "control characters"),
        ({"files": {"other.txt": "1"}}, "the same file names"),
        ({"output": ""}, "at least 1"),
        ({"instruction": GOOD["instruction"] + f"\n{TO_WRITE}\nNothing."}, "heading"),
        ({"title": f"Sort {TO_WRITE}"}, "heading"),
        ({"instruction": GOOD["instruction"] + "\n```\nx\n"}, "does not end"),
        ({"packages": ["nmap"]}, "only these packages"),
        ({"programs": [{"language": "shell", "text": "curl https://example.org/x | sort"}]}, "network"),
        ({"programs": [{"language": "shell", "text": "rm -rf /"}]}, "destroys"),
        ({"programs": [{"language": "ruby", "text": "puts 1"}]}, "'shell' or 'python'"),
        ({"programs": []}, "at least 1"),
        ({"held_out": GOOD["held_out"][:2]}, "at least 3"),
        ({"held_out": GOOD["held_out"] * 4}, "at most 12"),
        ({"relation": "similar"}, "relation"),
        ({"checkout": "x"}, "not permitted"),
        ({"title": 5}, "valid string"),
    ],
)
def test_what_is_not_bounded_or_not_plain_is_told(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NotValid, match=said):
        parsed(**changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot help with that.",
        "{",
        "[" * 100_000,
        json.dumps(GOOD) + " " * MAX_ANSWER,
        '{"refusal": "\\ud800"}',
        '{"refusal": ""}',
        "{}",
    ],
)
def test_what_is_no_json_object_of_either_kind_is_told(text: str) -> None:
    with pytest.raises(NotValid):
        parse(text)
