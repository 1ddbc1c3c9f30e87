import json

import pytest

from envfarm.core.action import Bash, Finish, Malformed, ReadFile, RunTests, StrReplace
from envfarm.policies.tool_calls import NAMES, PARAMETERS, arguments_of, parse, schemas


def test_schemas_are_plain_enough_for_any_engine() -> None:
    tools = {t["function"]["name"]: t["function"] for t in schemas()}
    assert tuple(tools) == NAMES
    assert tools["bash"]["parameters"] == {
        "type": "object",
        "properties": {
            "command": {"type": "string", "description": PARAMETERS["bash", "command"]},
            "timeout_s": {"type": "number", "description": PARAMETERS["bash", "timeout_s"]},
        },
        "required": ["command"],
        "additionalProperties": False,
    }
    assert tools["read_file"]["parameters"]["properties"]["line_count"]["default"] == 400
    assert tools["run_tests"]["parameters"]["properties"]["paths"]["items"] == {"type": "string"}
    assert all(t["description"] for t in tools.values())
    assert "anyOf" not in json.dumps(schemas())


def test_every_parameter_is_described_and_nothing_else() -> None:
    told = {(t["function"]["name"], p) for t in schemas() for p in t["function"]["parameters"]["properties"]}
    assert told == set(PARAMETERS)


@pytest.mark.parametrize(
    "action",
    [
        Bash(command="ls", timeout_s=3.0),
        StrReplace(path="a", old="b", new="c"),
        ReadFile(path="a", start_line=4),
        RunTests(paths=("a", "b")),
        Finish(message="done"),
    ],
)
def test_an_action_survives_being_called(action: Bash | StrReplace | ReadFile | RunTests | Finish) -> None:
    assert parse(action.tool, json.dumps(arguments_of(action))) == action
    assert parse(action.tool, arguments_of(action)) == action


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("dance", "{}", "there is no tool 'dance'; the tools are bash"),
        (None, "{}", "no tool None"),
        ("malformed", '{"raw": "", "problem": ""}', "no tool 'malformed'"),
        ("bash", '{"command": ', "not JSON"),
        ("bash", "[1]", "not an object"),
        ("bash", "", "command: Field required"),
        ("bash", '{"command": "ls", "cwd": "/"}', "cwd: Extra inputs"),
        ("bash", '{"command": 5}', "command: Input should be a valid string"),
        ("read_file", '{"path": "a", "start_line": "x"}', "start_line"),
    ],
)
def test_what_is_no_action_says_what_is_wrong(name: str | None, arguments: str, words: str) -> None:
    action = parse(name, arguments)
    assert isinstance(action, Malformed)
    assert words in action.problem
    assert action.raw == arguments


def test_a_model_cannot_choose_another_action_through_the_arguments() -> None:
    assert parse("bash", '{"tool": "finish", "command": "ls"}') == Bash(command="ls")
