import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from envfarm.core.action import Bash, Finish, Malformed
from envfarm.core.episode import PolicySpec, derived_seed
from envfarm.core.errors import ContextExhausted, PolicyError, PolicyRefused, UsageError
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.protocols import TellsOutages
from envfarm.policies import chat_reply
from envfarm.policies.chat_client import ChatClient, RetryPolicy
from envfarm.policies.openai_chat import ChatOptions, OpenAIChat
from envfarm.policies.registry import PolicyInputs, make
from envfarm.testing.chat_server import ChatServer, Line, chat_server, completion, tool_call
from envfarm.testing.factories import make_step, make_task

LS = tool_call("bash", {"command": "ls"})


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


def policy(server: ChatServer, http: httpx.AsyncClient, **options: Any) -> OpenAIChat:
    patience = RetryPolicy(timeout_s=1.0, tries=3, first_wait_s=0.0)
    given = ChatOptions(**{"model": "m", "base_url": server.base_url, "patience": patience, **options})
    return OpenAIChat(given, http, work_dir="/testbed", seed=7, api_key="made-up")


async def test_a_tool_call_is_an_action_with_the_call_behind_it(http: httpx.AsyncClient) -> None:
    body = tool_call("bash", {"command": "ls"}, content="I look.", usage={"prompt_tokens": 9, "completion_tokens": 4})
    async with chat_server([Line(body)]) as server:
        choice = await policy(server, http, temperature=0.5, max_tokens=50).next_action("Fix it.", [])
    assert choice.action == Bash(command="ls")
    assert choice.call is not None
    assert (choice.call.text, choice.call.prompt_tokens, choice.call.completion_tokens) == ("I look.", 9, 4)
    (asked,) = server.requests
    assert asked["messages"][0]["role"] == "system"
    assert "/testbed" in asked["messages"][0]["content"]
    assert asked["messages"][1] == {"role": "user", "content": "Fix it."}
    assert (asked["temperature"], asked["max_tokens"], asked["parallel_tool_calls"]) == (0.5, 50, False)
    assert "top_p" not in asked
    assert "logprobs" not in asked
    assert server.headers[0]["authorization"] == "Bearer made-up"


async def test_each_call_has_a_seed_of_its_own_and_the_same_one_when_it_is_asked_again(http: httpx.AsyncClient) -> None:
    steps = [make_step(0), make_step(1)]
    async with chat_server([Line(LS)]) as server:
        for calls in (0, 1, 2, 1):
            await policy(server, http).next_action("Fix it.", steps[:calls])
        await policy(server, http, use_seed=False).next_action("Fix it.", [])
    assert [r.get("seed") for r in server.requests] == [*(derived_seed(7, call) for call in (0, 1, 2, 1)), None]


async def test_the_models_own_words_go_back_and_each_call_gets_its_answer(http: httpx.AsyncClient) -> None:
    spoken = {
        "role": "assistant",
        "tool_calls": [{"id": "x9", "type": "function", "function": {"name": "bash", "arguments": '{"command":  "ls"}'}}],
    }
    call = ModelCall(message={**spoken, "reasoning_content": "hm"})
    history = [make_step(0, action=Bash(command="ls"), call=call, observation=Observation(text="a.py"))]
    async with chat_server([Line(LS)]) as server:
        await policy(server, http).next_action("Fix it.", history)
        await policy(server, http, send_reasoning=True).next_action("Fix it.", history)
    without, with_reasoning = (r["messages"][2:] for r in server.requests)
    assert without == [{"content": None, **spoken}, {"role": "tool", "tool_call_id": "x9", "content": "a.py"}]
    assert with_reasoning[0]["reasoning_content"] == "hm"


async def test_words_without_a_call_are_answered_by_the_user(http: httpx.AsyncClient) -> None:
    call = ModelCall(message={"role": "assistant", "content": "All done!"})
    history = [make_step(0, action=Malformed(raw="", problem="no call"), call=call, observation=Observation(text="no call", is_error=True))]
    async with chat_server([Line(LS)]) as server:
        await policy(server, http).next_action("Fix it.", history)
    assert server.requests[0]["messages"][2:] == [{"role": "assistant", "content": "All done!"}, {"role": "user", "content": "no call"}]


async def test_steps_that_no_model_made_are_told_as_calls(http: httpx.AsyncClient) -> None:
    history = [make_step(3, action=Bash(command="ls"), observation=Observation(text="a"))]
    async with chat_server([Line(LS)]) as server:
        await policy(server, http).next_action("Fix it.", history)
    said, seen = server.requests[0]["messages"][2:]
    assert said["tool_calls"][0]["function"] == {"name": "bash", "arguments": '{"command": "ls"}'}
    assert seen["tool_call_id"] == said["tool_calls"][0]["id"]


async def test_further_keys_override_and_null_takes_out(http: httpx.AsyncClient) -> None:
    async with chat_server([Line(LS)]) as server:
        extra = {"parallel_tool_calls": None, "top_k": 5, "seed": 1}
        await policy(server, http, extra_body=extra, logprobs=True, return_token_ids=True).next_action("", [])
    asked = server.requests[0]
    assert "parallel_tool_calls" not in asked
    assert (asked["top_k"], asked["seed"], asked["logprobs"], asked["return_token_ids"]) == (5, 1, True, True)


@pytest.mark.parametrize(
    "bad",
    [
        Line({"error": "busy"}, status=429, headers={"retry-after": "0"}),
        Line(b"oops", status=503),
        Line(b"<html>", status=502),
        Line(hang_up=True),
        Line(b"not json"),
    ],
)
async def test_a_bad_moment_is_waited_out(http: httpx.AsyncClient, bad: Line) -> None:
    async with chat_server([bad, bad, Line(LS)]) as server:
        choice = await policy(server, http).next_action("", [])
    assert choice.action == Bash(command="ls")
    assert len(server.requests) == 3


async def test_an_endpoint_that_stays_bad_is_a_policy_error_with_the_last_reason(http: httpx.AsyncClient) -> None:
    async with chat_server([Line({"error": {"message": "no capacity"}}, status=503)]) as server:
        with pytest.raises(PolicyError, match=r"did not answer in 3 tries; the last: status 503.*no capacity"):
            await policy(server, http).next_action("", [])
    assert len(server.requests) == 3


async def test_an_endpoint_that_is_not_there_is_a_policy_error(http: httpx.AsyncClient) -> None:
    async with chat_server([Line(LS)]) as server:
        gone = policy(server, http)
    with pytest.raises(PolicyError, match="ConnectError"):
        await gone.next_action("", [])


async def test_a_slow_endpoint_is_given_up(http: httpx.AsyncClient) -> None:
    async with chat_server([Line(LS, delay_s=30.0)]) as server:
        with pytest.raises(PolicyError, match="no answer in"):
            await policy(server, http, patience=RetryPolicy(timeout_s=0.05, tries=2, first_wait_s=0.0)).next_action("", [])


async def test_an_endpoint_that_dribbles_for_ever_is_given_up(http: httpx.AsyncClient) -> None:
    async with chat_server([Line(endless=b" ", delay_s=0.01)]) as server:
        with pytest.raises(PolicyError, match="no answer in"):
            await policy(server, http, patience=RetryPolicy(timeout_s=0.1, tries=2, first_wait_s=0.0)).next_action("", [])
    assert len(server.requests) == 2


async def test_an_answer_without_bounds_is_none_and_is_not_asked_for_again(http: httpx.AsyncClient) -> None:
    async with chat_server([Line(endless=b" " * (1 << 20))]) as server:
        with pytest.raises(PolicyError, match="more than 64 MiB"):
            await policy(server, http, patience=RetryPolicy(timeout_s=30.0, tries=2, first_wait_s=0.0)).next_action("", [])
    assert len(server.requests) == 1


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
async def test_nothing_is_unpacked(http: httpx.AsyncClient, encoding: str) -> None:
    packed = gzip.compress(bytes(64 << 20)) if encoding == "gzip" else b"\x28\xb5\x2f\xfd"
    async with chat_server([Line(packed, headers={"content-encoding": encoding})]) as server:
        with pytest.raises(PolicyError, match="which was not requested"):
            await policy(server, http).next_action("", [])
    assert server.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_a_refusal_is_not_retried(http: httpx.AsyncClient, status: int) -> None:
    async with chat_server([Line({"error": "no"}, status=status)]) as server:
        with pytest.raises(PolicyRefused, match=f"refused: status {status}"):
            await policy(server, http).next_action("", [])
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens",
        "Input is too long: the prompt (length 70000) exceeds max_model_len",
        {"code": "context_length_exceeded"},
    ],
)
async def test_a_conversation_that_is_too_long_is_not_the_endpoints_fault(http: httpx.AsyncClient, message: object) -> None:
    async with chat_server([Line({"error": {"message": message}}, status=400)]) as server:
        with pytest.raises(ContextExhausted):
            await policy(server, http).next_action("", [])


@pytest.mark.parametrize(
    "body", [{}, [], "x", None, {"choices": []}, {"choices": [{}]}, {"choices": ["x"]}, {"choices": [{"message": "hi"}]}]
)
async def test_an_answer_that_is_no_completion_is_a_policy_error(http: httpx.AsyncClient, body: object) -> None:
    async with chat_server([Line(body)]) as server:
        with pytest.raises(PolicyError, match="the engine's answer"):
            await policy(server, http).next_action("", [])


async def test_retry_after_is_obeyed_up_to_a_bound(http: httpx.AsyncClient) -> None:
    waits: list[float] = []

    async def note(seconds: float) -> None:
        waits.append(seconds)

    told = ["3", "9999", "Wed, 21 Oct 2015 07:28:07 GMT", "soon"]
    lines = [Line({}, status=429, headers={"retry-after": t, "date": "Wed, 21 Oct 2015 07:28:00 GMT"}) for t in told]
    async with chat_server([*lines, Line(LS)]) as server:
        patience = RetryPolicy(tries=5, first_wait_s=1.0, longest_wait_s=20.0)
        client = ChatClient(http, f"{server.base_url}/chat/completions", headers={}, retry=patience, sleep=note)
        await client.complete({})
    assert waits[:3] == [3.0, 20.0, 7.0]
    assert 4.0 <= waits[3] <= 8.0


async def test_failed_tries_and_the_waits_after_them_are_an_outage(http: httpx.AsyncClient) -> None:
    now = 100.0
    seen: list[float] = []

    async def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds
        seen.append(client.outage_s)

    busy = Line({}, status=429, headers={"retry-after": "30"})
    async with chat_server([busy, busy, Line(LS)]) as server:
        url = f"{server.base_url}/chat/completions"
        client = ChatClient(http, url, headers={}, retry=RetryPolicy(), sleep=pass_by, now=lambda: now)
        await client.complete({})
        assert (seen, client.outage_s) == ([30.0, 60.0], 60.0)
        await client.complete({})
        assert client.outage_s == 0.0
        assert isinstance(policy(server, http), TellsOutages)


@pytest.mark.parametrize(
    "patience", [{"tries": 10**12}, {"longest_wait_s": 1e9}, {"first_wait_s": 3600}, {"timeout_s": 1e12}, {"tries": 0}]
)
async def test_nobody_who_asks_for_episodes_has_an_endpoint_waited_for_without_end(
    http: httpx.AsyncClient, patience: dict[str, float]
) -> None:
    asked = PolicySpec(name="openai_chat", options={"model": "m", "patience": patience})
    with pytest.raises(UsageError, match=rf"`patience\.{next(iter(patience))}`"):
        make(asked, make_task(), PolicyInputs(http=http))


def two_calls() -> dict[str, Any]:
    body = tool_call("bash", {"command": "a"})
    body["choices"][0]["message"]["tool_calls"] *= 2
    return body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (completion({"content": "hello"}), "there is no tool call"),
        (completion({"content": "hell"}, choice={"finish_reason": "length"}), "reached its maximum length"),
        (two_calls(), "2 tool calls at once; none was run"),
        (completion({"tool_calls": "x"}), "not a list of objects"),
        (completion({"tool_calls": [{"id": "a"}]}), "has no function"),
        (tool_call("bash", "{"), "not JSON"),
        (tool_call("dance", "{}"), "no tool 'dance'"),
    ],
)
def test_nonsense_of_a_model_is_malformed_and_costs_it_a_turn(body: dict[str, Any], words: str) -> None:
    action, call = chat_reply.read(body)
    assert isinstance(action, Malformed)
    assert words in action.problem
    assert call.message is not None


def test_token_ids_and_logprobs_of_vllm_are_kept() -> None:
    rows = [{"token": "a", "logprob": -0.25}, {"token": "b", "logprob": float("-inf")}]
    body = tool_call("finish", {}, prompt_token_ids=[1, 2, 3], choice={"token_ids": [7, 8], "logprobs": {"content": rows}})
    action, call = chat_reply.read(body)
    assert action == Finish()
    assert (call.prompt_ids, call.completion_ids, call.logprobs) == ((1, 2, 3), (7, 8), (-0.25, -9999.0))
    assert (call.prompt_tokens, call.completion_tokens) == (3, 2)
    assert ModelCall.model_validate_json(call.model_dump_json()) == call


def test_token_ids_that_stand_in_the_tokens_names_are_kept() -> None:
    rows = [{"token": "token_id:7", "logprob": -0.25}]
    _, call = chat_reply.read(tool_call("finish", {}, choice={"logprobs": {"content": rows}}))
    assert (call.completion_ids, call.logprobs) == ((7,), (-0.25,))


def test_token_ids_of_sglang_are_kept_with_the_weights_version() -> None:
    meta = {"output_token_logprobs": [[-0.5, 7, None], [-1.5, 8, None]], "weight_version": "v3"}
    _, call = chat_reply.read(tool_call("finish", {}, choice={"meta_info": meta}))
    assert (call.completion_ids, call.logprobs, call.weight_version) == ((7, 8), (-0.5, -1.5), "v3")


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": [{"logprob": -1.0}]}, {"content": [{"logprob": "0"}] * 2}])
def test_logprobs_that_do_not_match_the_ids_are_left_out(logprobs: object) -> None:
    _, call = chat_reply.read(tool_call("finish", {}, choice={"token_ids": [7, 8], "logprobs": logprobs}))
    assert (call.completion_ids, call.logprobs) == ((7, 8), None)


@pytest.mark.parametrize("logprob", [float("nan"), float("inf"), 10**400])
def test_an_engine_that_gives_no_number_as_a_logprob_lies(logprob: float) -> None:
    rows = [{"logprob": -1.0}, {"logprob": logprob}]
    with pytest.raises(PolicyError, match="as a logprob"):
        chat_reply.read(tool_call("finish", {}, choice={"token_ids": [7, 8], "logprobs": {"content": rows}}))


def test_a_number_that_json_cannot_say_is_the_models_mistake_and_can_be_kept() -> None:
    for arguments in ({"command": "ls", "timeout_s": float("inf")}, '{"command": "ls", "timeout_s": Infinity}'):
        called = [{"id": "x", "type": "function", "function": {"name": "bash", "arguments": arguments}}]
        action, call = chat_reply.read(completion({"tool_calls": called}))
        assert isinstance(action, Malformed)
        assert "finite" in action.problem
        assert ModelCall.model_validate_json(call.model_dump_json()) == call
        json.dumps(call.message, allow_nan=False)


def test_ids_that_are_none_are_not_taken() -> None:
    for ids in ([], ["a"], [True], "12", None):
        _, call = chat_reply.read(tool_call("finish", {}, choice={"token_ids": ids}))
        assert call.completion_ids is None


def test_text_that_cannot_be_stored_is_mended() -> None:
    body = json.loads(r'{"choices": [{"message": {"content": "a\ud800b", "tool_calls": []}}]}')
    action, call = chat_reply.read(body)
    assert call.text == "a\N{REPLACEMENT CHARACTER}b"
    assert isinstance(action, Malformed)
    call.model_dump_json()
    action.model_dump_json()


def test_pairs_of_surrogates_are_characters() -> None:
    _, call = chat_reply.read(json.loads(r'{"choices": [{"message": {"content": "\ud83d\ude00"}}]}'))
    assert call.text == "\N{GRINNING FACE}"
