"""Where tenants' policies may be called, and whose key goes there."""

from pathlib import Path

import pytest

from envfarm.core.errors import UsageError
from envfarm.policies.addresses import PolicyAddresses, read_keys
from envfarm.policies.openai_chat import OpenAIChat
from envfarm.settings import Settings
from envfarm.testing.chat_server import Line, chat_server, tool_call
from envfarm.testing.factories import make_spec, make_task
from envfarm.wiring import Farm

ONE, OTHER = "https://one.example/v1", "http://other.example:8000"


@pytest.mark.parametrize(
    ("url", "listed"),
    [
        (ONE, True),
        ("https://one.example:443/v1/", True),
        ("https://one.example/v1/below", True),
        ("https://one.example/v10", False),
        ("https://one.example", False),
        ("http://one.example/v1", False),
        ("https://one.example:444/v1", False),
        ("https://one.example/v1/../x", False),
        ("https://one.example/v1/%2e%2e/x", False),
        ("https://one.example@evil.example/v1", False),
        ("https://one.example/v1?x=1", False),
        ("ftp://one.example/v1", False),
        ("nonsense", False),
    ],
)
def test_an_address_is_listed_with_what_is_below_it(url: str, listed: bool) -> None:  # noqa: FBT001 - a table
    addresses = PolicyAddresses([ONE, OTHER], {ONE: "sk-one"})
    assert addresses.lists(url) is listed
    assert addresses.key(url) == ("sk-one" if listed else "")


def test_no_address_gets_another_ones_key() -> None:
    addresses = PolicyAddresses([ONE, OTHER], {ONE: "sk-one", f"{ONE}/special": "sk-special"})
    assert [addresses.key(url) for url in (ONE, OTHER, f"{ONE}/special/x", f"{ONE}/specials")] == ["sk-one", "", "sk-special", "sk-one"]


def test_a_key_for_an_address_that_is_not_listed_is_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"other\.example") as told:
        PolicyAddresses([ONE], {OTHER: "sk-secret"})
    assert "sk-secret" not in str(told.value)


@pytest.mark.parametrize("text", ["[[", '"a" = 1', '[a]\nb = "sk-secret"', '"a" = "sk-secret', None])
def test_a_file_of_keys_that_cannot_be_read_says_so_and_tells_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "keys.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UsageError, match=r"keys\.toml") as told:
        read_keys(path)
    assert "sk-secret" not in f"{told.value} {told.value.__cause__} {told.value.hint}"


def test_a_file_of_keys_is_read(tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(f'"{ONE}" = "sk-one"\n')
    assert read_keys(tmp_path / "keys.toml") == {ONE: "sk-one"}
    assert read_keys(None) == {}


async def test_a_farm_sends_the_environments_key_nowhere_but_what_is_named_for_an_address(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, parallel=1, openai_api_key="sk-environment")
    async with chat_server([Line(tool_call("finish", {}))]) as server:
        named = PolicyAddresses([server.base_url], {server.base_url: "sk-named"})
        for farm, sent in ((Farm(settings), None), (Farm(settings, key_of=named.key), "Bearer sk-named")):
            async with farm:
                policy = {"name": "openai_chat", "options": {"model": "m", "base_url": server.base_url}}
                player = farm.policy(make_spec(policy=policy), make_task())
                assert isinstance(player, OpenAIChat)
                await player.next_action("", [])
            assert server.headers[-1].get("authorization") == sent
