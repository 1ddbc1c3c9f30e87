"""What models write as actions, well and badly."""

import pytest

from envfarm.core.action import Action, Bash, Finish, Malformed
from envfarm.integrations.driving import how_to_act, read_action


@pytest.mark.parametrize(
    ("text", "action"),
    [
        ('{"tool": "bash", "command": "ls"}', Bash(command="ls")),
        (' \n{"tool": "finish"}\n', Finish()),
        ('```json\n{"tool": "finish", "message": "done"}\n```', Finish(message="done")),
        ('```\n{"tool": "finish"}```', Finish()),
    ],
)
def test_an_action_is_read(text: str, action: Action) -> None:
    assert read_action(text) == action


@pytest.mark.parametrize(
    "text", ["", "ls", '{"tool": "bash"}', '{"tool": "sudo", "command": "ls"}', "[]", "```", "``````", "\udcff", "9" * 9999]
)
def test_anything_else_is_told_back(text: str) -> None:
    read = read_action(text)
    assert isinstance(read, Malformed)
    assert read.raw == text
    assert len(read.problem) <= 500


def test_the_words_for_models_name_every_tool_but_nonsense() -> None:
    assert [f'"const": "{tool}"' in how_to_act() for tool in ("bash", "str_replace", "read_file", "run_tests", "finish")] == [True] * 5
    assert "malformed" not in how_to_act()
