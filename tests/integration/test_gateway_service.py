"""The gateway towards agents: who may call, what is sampled once, what the limits are, and in which words it says no."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import GatewayError
from envfarm.core.ids import EpisodeId
from envfarm.gateway.conversation import Asked, Message
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.problems import Refused
from envfarm.gateway.tokenizer import decode
from envfarm.testing.engine_replies import Reply, lines
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from envfarm.testing.small_tokenizer import TEMPLATE, small_tokenizer
from tests.integration.gateway_agents import SPEAKERS, Access, ChatSpeaker, MessagesSpeaker, ResponsesSpeaker, Served, served

EPISODE = EpisodeId("e")
HI: dict[str, dict[str, Any]] = {
    "chat/completions": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "responses": {"model": "m", "input": "hi"},
    "messages": {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
}


@pytest.fixture
def engine() -> Iterator[EngineSimulator]:
    with engine_simulator() as running:
        yield running


@pytest.fixture
async def on(engine: EngineSimulator) -> AsyncIterator[Served]:
    options = GatewayOptions(request_bytes=1 << 20, sessions=3)
    async with served(EngineSpec(name="one", kind="sglang", url=engine.url), options=options) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        yield client


def headers(access: Access) -> dict[str, str]:
    return {"Authorization": f"Bearer {access.token}"}


@pytest.mark.parametrize("path", list(HI))
async def test_only_the_episodes_own_token_is_let_in(on: Served, http: httpx.AsyncClient, path: str) -> None:
    access, other = on.open(EPISODE), on.open("other")
    wrong: list[tuple[str, dict[Any, Any]]] = [
        (access.path, headers(other)),
        (access.path, {}),
        (access.path, {"Authorization": "Basic x"}),
        (access.path, {b"x-api-key": "größe".encode()}),
        ("/nobody", headers(access)),
    ]
    told = [await http.post(f"{on.url}{where}/v1/{path}", json=HI[path], headers=h) for where, h in wrong]
    assert {r.status_code for r in told} == {401}
    assert len({r.text for r in told}) == 1
    for given in (headers(access), {"x-api-key": access.token}):
        for version in ("", "/v1"):
            assert (await http.post(f"{on.url}{access.path}{version}/{path}", json=HI[path], headers=given)).status_code == 200
    await on.gateway.close(EPISODE)
    assert (await http.post(f"{on.url}{access.path}/v1/{path}", json=HI[path], headers=headers(access))).status_code == 401


async def test_an_episode_is_open_once_and_they_are_bounded(on: Served) -> None:
    on.open(EPISODE)
    with pytest.raises(GatewayError, match="open already"):
        on.open(EPISODE)
    on.open("b")
    on.open("c")
    with pytest.raises(GatewayError, match="3 episodes are open"):
        on.open("d")
    await on.gateway.close(EPISODE)
    on.open(EPISODE)
    with pytest.raises(GatewayError, match="not open"):
        await on.gateway.close(EpisodeId("nobody"))


@pytest.mark.parametrize("path", list(HI))
async def test_bad_bodies_are_refused_in_the_dialects_words(on: Served, http: httpx.AsyncClient, path: str) -> None:
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/{path}"
    deep = b'{"model": "m", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    deep_tools = json.dumps(HI[path])[:-1] + ', "tools": [{"type": "function", "name": "a", "x": ' + '{"a":' * 900 + "1" + "}" * 900 + "}]}"
    endless = json.dumps(HI[path])[:-1].encode() + b', "metadata": {"n": 1e999}}'
    for content, status in [
        (b"{", 400),
        (endless, 400),
        (endless.replace(b"1e999", b"NaN"), 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (deep, 400),
        (b" " * (2 << 20), 413),
    ]:
        response = await http.post(url, content=content, headers=headers(access))
        assert response.status_code == status, content[:20]
        error = response.json()["error"]
        assert (error["retryable"], response.headers["x-should-retry"]) == (False, "false")
    assert (await http.post(url, content=deep_tools, headers=headers(access))).status_code in (200, 400)
    assert (await http.post(url, json=HI[path], headers=headers(access))).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("number", ["NaN", "1e999"])
@pytest.mark.parametrize("dialect", list(SPEAKERS))
async def test_a_call_that_no_client_could_read_is_text_and_the_agent_goes_on(
    engine: EngineSimulator, on: Served, dialect: str, number: str, *, stream: bool
) -> None:
    said = f'<tool_call>{{"name": "bash", "arguments": {{"n": {number}}}}}</tool_call>'
    engine.play(lines(said, "Once more, then."))
    access = on.open(EPISODE)
    speaker = SPEAKERS[dialect](on.url + access.path, access.token)
    speaker.user("hi")
    answer = await speaker.ask(stream=stream)
    assert (answer.text, answer.calls) == (said, [])
    speaker.heard(answer)
    speaker.user("That was no call.")
    assert (await speaker.ask(stream=stream)).text == "Once more, then."
    await speaker.aclose()
    assert [c.drift for c in (await on.gateway.close(EPISODE)).calls] == [(), ()]


async def test_a_request_that_comes_while_it_is_being_sampled_is_not_sampled_twice(
    engine: EngineSimulator, on: Served, http: httpx.AsyncClient
) -> None:
    engine.play(lines(Reply("Slowly said.", delay_s=0.3)))
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/chat/completions"
    asks = [http.post(url, json=HI["chat/completions"], headers=headers(access)) for _ in range(5)]
    answers = [r.json() for r in await asyncio.gather(*asks)]
    assert {a["id"] for a in answers} == {answers[0]["id"]}
    assert len(engine.ledger.entries) == 1


async def test_a_client_that_goes_away_finds_its_answer_when_it_comes_back(
    engine: EngineSimulator, on: Served, http: httpx.AsyncClient
) -> None:
    engine.play(lines(Reply("Slowly said.", delay_s=1.5), "Another."))
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/messages"
    for stream in (True, False):
        with pytest.raises(httpx.ReadTimeout):
            await http.post(url, json={**HI["messages"], "stream": stream}, headers=headers(access), timeout=0.1)
    response = await http.post(url, json=HI["messages"], headers=headers(access))
    assert response.json()["content"] == [{"type": "text", "text": "Slowly said."}]
    assert len(engine.ledger.entries) == 1
    assert [c.delivered for c in (await on.gateway.close(EPISODE)).calls] == [True]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", list(HI))
async def test_an_answer_that_no_agent_received_is_told_as_such(
    engine: EngineSimulator, on: Served, http: httpx.AsyncClient, path: str, *, stream: bool
) -> None:
    engine.play(lines(Reply("Slowly said.", delay_s=0.5), "Another."))
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/{path}"
    with pytest.raises(httpx.ReadTimeout):
        await http.post(url, json={**HI[path], "stream": stream}, headers=headers(access), timeout=0.1)
    other = {**HI[path], "stop" if path != "messages" else "stop_sequences": ["x"], "stream": stream}
    assert (await http.post(url, json=other, headers=headers(access))).status_code == 200
    while len(on.gateway.session(EPISODE, access.token).sampled().calls) < 2:  # noqa: ASYNC110 - no agent waits for it
        await asyncio.sleep(0.05)
    sampled = await on.gateway.close(EPISODE)
    assert {c.text: c.delivered for c in sampled.calls} == {"Slowly said.": False, "Another.": True}
    assert [sum(b.mask) for b in sampled.branches] == [len(c.completion_ids) for c in sampled.calls]


async def test_another_seed_asks_for_another_answer(engine: EngineSimulator, on: Served, http: httpx.AsyncClient) -> None:
    engine.play(lambda _, number: Reply(f"Answer {number}."))
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/chat/completions"
    said = []
    for wishes in ({}, {"seed": 0}, {"seed": 1}, {"seed": 0}, {}):
        response = await http.post(url, json={**HI["chat/completions"], **wishes}, headers=headers(access))
        said.append(response.json()["choices"][0]["message"]["content"])
    assert said == ["Answer 0.", "Answer 1.", "Answer 2.", "Answer 1.", "Answer 0."]
    sampled = await on.gateway.close(EPISODE)
    assert len({sampled.prompt_ids(c.index) for c in sampled.calls}) == 1


async def test_a_stripped_answer_is_no_drift_and_an_altered_one_is(engine: EngineSimulator, on: Served) -> None:
    engine.play(lines("<think>\nt\n</think>\n\nAn answer.\n"))
    for words, drifts in (("An answer.", False), ("An answer!", True)):
        access = on.open(words)
        speaker = ChatSpeaker(on.url + access.path, access.token)
        speaker.user("go")
        assert (await speaker.ask(stream=False)).text == "\n\nAn answer.\n"
        speaker.history.append({"role": "assistant", "content": words})
        speaker.user("more")
        await speaker.ask(stream=False)
        await speaker.aclose()
        first, second = (await on.gateway.close(EpisodeId(words))).calls
        assert (first.drift, bool(second.drift), second.parent) == ((), drifts, None if drifts else 0)


async def test_what_is_meant_to_be_asked_twice_is_sampled_twice(engine: EngineSimulator, http: httpx.AsyncClient) -> None:
    async with served(EngineSpec(name="one", kind="sglang", url=engine.url), options=GatewayOptions(kept_answers=1)) as on:
        access = on.open(EPISODE)
        url = f"{on.url}{access.path}/v1/chat/completions"
        for key in ("a", "b", "b", "a"):
            await http.post(url, json=HI["chat/completions"], headers={**headers(access), "Idempotency-Key": key})
        sampled = await on.gateway.close(EPISODE)
    # The last one was kept no longer.
    assert len(engine.ledger.entries) == len(sampled.branches) == 3


async def test_a_failed_call_is_sampled_anew_by_the_clients_own_retry(engine: EngineSimulator, on: Served) -> None:
    engine.play(lines(Reply(fault="status"), "There."))
    access = on.open(EPISODE)
    for dialect in SPEAKERS.values():
        speaker = dialect(on.url + access.path, access.token, retries=2)
        speaker.user("hi")
        assert (await speaker.ask(stream=False)).text == "There."
        await speaker.aclose()
    sampled = await on.gateway.close(EPISODE)
    assert (len(sampled.calls), sampled.failed_calls) == (3, 1)


async def test_the_farm_decides_how_it_is_sampled(engine: EngineSimulator, on: Served) -> None:
    access = on.open(EPISODE, temperature=0.9, completion_tokens=50)
    speaker = ChatSpeaker(on.url + access.path, access.token)
    speaker.user("hi")
    for wish in ({}, {"temperature": 0.0, "top_p": 0.1, "max_tokens": 9_999}, {"temperature": 2.0, "max_tokens": 7}):
        await speaker.ask(stream=False, **wish)
    await speaker.aclose()
    asked = [(e.temperature, e.top_p, e.max_tokens) for e in engine.ledger.entries]
    assert asked == [(0.9, 1.0, 50), (0.9, 1.0, 50), (0.9, 1.0, 7)]


@pytest.mark.parametrize("dialect", list(SPEAKERS))
async def test_a_conversation_that_is_too_long_is_told_in_words_that_agents_know(on: Served, dialect: str) -> None:
    access = on.open(EPISODE, context_tokens=100)
    speaker = SPEAKERS[dialect](on.url + access.path, access.token, retries=2)
    speaker.user("word " * 200)
    with pytest.raises((openai.BadRequestError, anthropic.BadRequestError)) as told:
        await speaker.ask(stream=True)
    await speaker.aclose()
    refused: Any = told.value
    words = "prompt is too long" if dialect == "anthropic_messages" else "context_length_exceeded"
    assert words in refused.response.text
    assert (await on.gateway.close(EPISODE)).spent == "context"


@pytest.mark.parametrize("dialect", list(SPEAKERS))
async def test_a_spent_budget_ends_the_episode_and_is_not_retried(engine: EngineSimulator, on: Served, dialect: str) -> None:
    engine.play(lines("one two three four five six seven eight"))
    access = on.open(EPISODE, tokens=6)
    speaker = SPEAKERS[dialect](on.url + access.path, access.token, retries=3)
    speaker.user("hi")
    answer = await speaker.ask(stream=False)
    assert answer.cut
    speaker.user("go on")
    with pytest.raises((openai.PermissionDeniedError, anthropic.PermissionDeniedError)):
        await speaker.ask(stream=False)
    await speaker.aclose()
    sampled = await on.gateway.close(EPISODE)
    assert (sum(len(c.completion_ids) for c in sampled.calls), sampled.spent, sampled.failures) == (6, "tokens", ())


async def test_calls_at_once_cannot_go_beyond_the_budget_together(engine: EngineSimulator, http: httpx.AsyncClient) -> None:
    engine.play(lines(Reply("word " * 50, delay_s=1.0)))
    async with served(EngineSpec(name="one", kind="sglang", url=engine.url), options=GatewayOptions(calls_at_once=4)) as on:
        access = on.open(EPISODE, tokens=30, completion_tokens=20)
        url = f"{on.url}{access.path}/v1/responses"
        asks = [http.post(url, json={"input": f"hi {n}"}, headers=headers(access)) for n in range(6)]
        statuses = sorted(r.status_code for r in await asyncio.gather(*asks))
        assert statuses == [200, 200, 403, 403, 429, 429]
        sampled = await on.gateway.close(EPISODE)
    assert sum(len(c.completion_ids) for c in sampled.calls) == 30


async def test_closing_ends_calls_under_way(engine: EngineSimulator, on: Served, http: httpx.AsyncClient) -> None:
    engine.play(lines(Reply("never", delay_s=60.0)))
    access = on.open(EPISODE)
    url = f"{on.url}{access.path}/v1/chat/completions"
    asking = asyncio.create_task(http.post(url, json=HI["chat/completions"], headers=headers(access)))
    while not engine.ledger.entries:  # noqa: ASYNC110 - it is another thread's
        await asyncio.sleep(0.01)
    assert (await on.gateway.close(EPISODE)).calls == ()
    assert (await asking).status_code == 401


async def test_a_call_that_had_not_begun_when_the_episode_ended_is_told(on: Served) -> None:
    session = on.gateway.session(EPISODE, on.open(EPISODE).token)
    flight = session.ask(Asked((Message("user", "hi"),)), dialect="d", request=b"1")
    assert (await on.gateway.close(EPISODE)).calls == ()
    with pytest.raises(Refused, match="is over"):
        await flight.whole()
    with pytest.raises(Refused, match="is over"):
        session.ask(Asked((Message("user", "hi"),)), dialect="d", request=b"2")


async def test_an_episode_stays_with_the_engine_that_holds_its_prefixes(engine: EngineSimulator, on: Served) -> None:
    with engine_simulator() as other:
        specs = [EngineSpec(name=f"e{n}", kind="vllm", url=url) for n, url in enumerate([engine.url, other.url] * 4)]
        on.gateway.set_engines(specs[:4])
        access = on.open(EPISODE)
        speaker = MessagesSpeaker(on.url + access.path, access.token)
        for turn in range(4):
            if turn == 2:
                on.gateway.set_engines(specs)
            speaker.user("hi")
            speaker.heard(await speaker.ask(stream=True))
        first = {c.engine for c in on.gateway.session(EPISODE, access.token).sampled().calls}
        on.gateway.set_engines([s for s in specs if s.name not in first])
        speaker.user("hi")
        await speaker.ask(stream=True)
        await speaker.aclose()
        sampled = await on.gateway.close(EPISODE)
    assert len(first) == 1
    assert sampled.calls[-1].engine not in first
    # The prompt is the same tokens on another engine, too.
    assert len(sampled.branches) == 1


async def test_tokens_are_counted_and_models_listed(on: Served, engine: EngineSimulator) -> None:
    access = on.open(EPISODE)
    speaker = MessagesSpeaker(on.url + access.path, access.token)
    speaker.user("hi")
    counted = await speaker.client.messages.count_tokens(model="m", messages=[{"role": "user", "content": "hi"}])
    made = await speaker.client.messages.create(model="m", messages=[{"role": "user", "content": "hi"}], max_tokens=9)
    await speaker.aclose()
    assert counted.input_tokens == made.usage.input_tokens == len(engine.ledger.entries[0].prompt_ids)
    other = ResponsesSpeaker(on.url + access.path, access.token)
    assert [m.id async for m in other.client.models.list()] == ["policy"]
    await other.aclose()


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
async def test_an_agent_is_told_which_of_its_strings_ended_an_answer(engine: EngineSimulator, kind: Any) -> None:
    engine.play(lines(*["All is well.</done> And more."] * 2))
    async with served(EngineSpec(name="one", kind=kind, url=engine.url)) as on:
        access = on.open(EPISODE)
        client = anthropic.AsyncAnthropic(base_url=on.url + access.path, api_key=access.token, max_retries=0)
        asked: Any = {"model": "m", "max_tokens": 99, "stop_sequences": ["<stop>", "</done>"]}
        whole = await client.messages.create(**asked, messages=[{"role": "user", "content": "one"}])
        async with client.messages.stream(**asked, messages=[{"role": "user", "content": "two"}]) as stream:
            streamed = await stream.get_final_message()
        await client.close()
    answers: list[Any] = [whole, streamed]
    for made in answers:
        assert (made.stop_reason, made.stop_sequence) == ("stop_sequence", "</done>")
        assert [block.text for block in made.content if block.type == "text"] == ["All is well."]


async def test_a_tools_error_is_in_the_prompt_and_stays_there_token_by_token(engine: EngineSimulator, on: Served) -> None:
    call = '<tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>'
    engine.play(lines(call, "It failed.", "As I said."))
    access = on.open(EPISODE)
    speaker = MessagesSpeaker(on.url + access.path, access.token)
    speaker.user("hi")
    answer = await speaker.ask(stream=False)
    speaker.heard(answer)
    result = {"type": "tool_result", "tool_use_id": answer.calls[0][0], "content": "no such file", "is_error": True}
    speaker.history.append({"role": "user", "content": [result]})
    speaker.heard(await speaker.ask(stream=True))
    speaker.user("Why?")
    await speaker.ask(stream=False)
    await speaker.aclose()
    (branch,) = (await on.gateway.close(EPISODE)).branches
    assert (len(branch.segments), branch.drift) == (3, ())
    said = decode(small_tokenizer(), branch.ids)
    assert said.count("<error>\nno such file\n</error>") == 1
    assert [*branch.ids[: len(engine.ledger.entries[-1].prompt_ids)]] == [*engine.ledger.entries[-1].prompt_ids]


@pytest.mark.parametrize("dialect", list(SPEAKERS))
async def test_a_stream_that_waits_says_that_it_lives(engine: EngineSimulator, http: httpx.AsyncClient, dialect: str) -> None:
    engine.play(lines(Reply("At last.", delay_s=0.5)))
    options = GatewayOptions(first_part_s=0.01, heartbeat_s=0.02)
    async with served(EngineSpec(name="one", kind="vllm", url=engine.url), options=options) as on:
        access = on.open(EPISODE)
        speaker = SPEAKERS[dialect](on.url + access.path, access.token)
        speaker.user("hi")
        assert (await speaker.ask(stream=True)).text == "At last."
        await speaker.aclose()
        engine.play(lines(Reply("At last.", delay_s=0.5, fault="status")))
        body = {**HI["chat/completions"], "stream": True}
        response = await http.post(f"{on.url}{access.path}/v1/chat/completions", json=body, headers=headers(access))
    assert response.status_code == 200
    assert ": the model thinks\n\n" in response.text
    assert '"code":"server_error"' in response.text


async def test_only_so_many_requests_are_read_at_once(engine: EngineSimulator, http: httpx.AsyncClient) -> None:
    async with served(EngineSpec(name="one", kind="vllm", url=engine.url), options=GatewayOptions(requests_bytes=500)) as on:
        access = on.open(EPISODE)
        url = f"{on.url}{access.path}/v1/messages"
        large = {**HI["messages"], "metadata": {"user_id": "x" * 1000}}
        for body, status in [(HI["messages"], 200), (large, 429), (HI["messages"], 200)]:
            response = await http.post(url, json=body, headers=headers(access))
            assert response.status_code == status
    assert len(engine.ledger.entries) == 1


THINKS = TEMPLATE.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}")
"""It opens the reasoning itself, as those of Qwen 3.5, Nemotron 3 and DeepSeek R1 do."""


@pytest.mark.parametrize("stream", [False, True])
async def test_what_a_model_thinks_whose_template_opens_its_reasoning_is_told_as_reasoning(
    engine: EngineSimulator,
    http: httpx.AsyncClient,
    stream: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    engine.play(lines("The user greets.\n</think>\n\nHello.", "Again.\n</think>\n\nAs I said."))
    async with served(EngineSpec(name="one", kind="sglang", url=engine.url), template=THINKS) as on:
        access = on.open(EPISODE)
        speaker = ChatSpeaker(on.url + access.path, access.token)
        for thought, text in (("The user greets.\n", "\n\nHello."), ("Again.\n", "\n\nAs I said.")):
            speaker.user("hi")
            answer = await speaker.ask(stream=stream)
            assert (answer.rows[0]["reasoning_content"], answer.text) == (thought, text)
            speaker.heard(answer)
        await speaker.aclose()
        (branch,) = (await on.gateway.close(EPISODE)).branches
    assert (len(branch.segments), branch.drift) == (2, ())
