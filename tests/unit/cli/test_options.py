"""What `--policy` and `--engine` take: keys and values, JSON, or a file."""

import json
from pathlib import Path

import pytest

from envfarm.cli.options import parse_engines, parse_policy
from envfarm.core import digest
from envfarm.core.errors import UsageError
from envfarm.policies.openai_chat import ChatOptions

TASK = digest.of_bytes(b"task")


def options(text: str) -> dict[str, object]:
    return parse_policy(text, TASK).options


def test_values_are_text_of_which_the_types_of_the_options_make_what_they_need() -> None:
    told = options("openai_chat:model=4,temperature=0.7,max_tokens=1000,use_seed=false,patience.tries=2")
    found = ChatOptions.model_validate(told)
    assert (found.model, found.temperature, found.max_tokens, found.use_seed, found.patience.tries) == ("4", 0.7, 1000, False, 2)
    assert options("program:env.BUILD=1_000")["env"] == {"BUILD": "1_000"}


def test_a_value_may_have_commas_and_equals_signs() -> None:
    told = options(r"""program:command=X=1 python -c 'print(1\, "\n")',model=m""")
    assert told == {"command": r"""X=1 python -c 'print(1, "\n")'""", "model": "m"}


def test_lists_and_numbers_of_no_known_type_are_given_as_json_or_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = {"model": "m", "extra_body": {"top_k": 20, "stop": ["a,b"]}}
    (tmp_path / "chat.json").write_text(json.dumps(chat))
    (tmp_path / "chat.toml").write_text('model = "m"\nextra_body = { top_k = 20, stop = ["a,b"] }\n')
    monkeypatch.chdir(tmp_path)
    for text in (json.dumps(chat), "@chat.json", "@chat.toml", f"@{tmp_path}/chat.toml"):
        assert options(f"openai_chat:{text}") == chat
    assert options('scripted:{"actions": [{"tool": "bash", "command": "ls {task}"}]}') == {
        "actions": [{"tool": "bash", "command": f"ls {TASK[7:19]}"}]
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('program:command=python -c "print(1, 2)"', "' 2)\"' is not key=value"),
        ("openai_chat:model", "'model' is not key=value"),
        ("openai_chat:=m", "'=m' is not key=value"),
        ("openai_chat:patience.=2", "'patience.=2' is not key=value"),
        ("openai_chat:model=m,", "'' is not key=value"),
        ("openai_chat:model=m,model=n", "`model` is given twice"),
        ("openai_chat:patience.tries=2,patience=3", "`patience` is given twice"),
        ("openai_chat:patience=3,patience.tries=2", "`patience` is given a value and keys below it"),
        ("openai_chat:model=m,extra_body.top_k=20", "`extra_body` text"),
        ('openai_chat:{"model": m}', "not a JSON object"),
        ("openai_chat:@nowhere.toml", "nowhere.toml: No such file"),
        ("openai_chat:@options.yaml", "does not say whether it is TOML or JSON"),
        ("openai_chat:@list.json", "list.json: not a JSON object"),
        ("openai_chat:@broken.toml", "broken.toml: "),
    ],
)
def test_what_is_not_understood_is_told_with_what_is_accepted(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("list.json", "[]"), ("broken.toml", "model"), ("options.yaml", "model: m")):
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        parse_policy(text, TASK)
    assert words in str(caught.value)
    assert "JSON" in caught.value.hint


def test_engines_are_given_in_the_same_language(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "engine.toml"
    file.write_text('name = "c"\nkind = "vllm"\nurl = "https://c"\napi_key = "sesame"\n')
    found = parse_engines(
        ["name=a,kind=sglang,url=http://a,incremental=false", '{"name": "b", "kind": "vllm", "url": "http://b"}', f"@{file}"]
    )
    assert [(e.name, e.incremental, e.api_key.get_secret_value()) for e in found] == [
        ("a", False, ""),
        ("b", True, ""),
        ("c", True, "sesame"),
    ]
    assert capfd.readouterr().err == ""


def test_a_key_on_the_command_line_is_warned_of_and_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    (one,) = parse_engines(["name=a,kind=vllm,url=http://a,api_key=sesame"])
    assert one.api_key.get_secret_value() == "sesame"
    with pytest.raises(UsageError, match="`kind`") as caught:
        parse_engines(["name=a,kind=other,url=http://a,api_key=sesame"])
    said = capfd.readouterr().err
    assert said.count("@FILE.toml") == 2
    assert "sesame" not in f"{said} {caught.value} {caught.value.hint}"


@pytest.mark.parametrize("text", ["name=a,kind=vllm,url=http://a,model", "kind=vllm,url=http://a", "name=a,kind=vllm,url=a"])
def test_an_engine_that_is_not_understood_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="--engine: ") as caught:
        parse_engines([text])
    assert "for example name=a,kind=vllm" in caught.value.hint
