"""Engines on bad days: what an agent hears, what is kept (nothing), and what the episode's verdict can be built on."""

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from envfarm.core.engine import EngineSpec
from envfarm.core.errors import Cause
from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import Sampled
from envfarm.gateway.engines.engine_http import Patience
from envfarm.gateway.limits import GatewayOptions
from envfarm.testing.engine_replies import Fault, Reply, lines
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from tests.integration.gateway_agents import SPEAKERS, Answer, ChatSpeaker, Served, served

EPISODE = EpisodeId("e")
FAULTS: dict[Fault, str] = {
    "status": "status 500",
    "hang_up": "does not answer",
    "garbage": "not JSON",
    "no_end": "ended its answer",
    "abort": "broke off",
    "silent": "Timeout on reading",
    "endless": "samples more than",
    "oversized": "answers with more than",
    "packed": "which was not requested",
    "no_logprobs": "logprobs",
    "short_logprobs": "logprobs",
    "bad_logprobs": "as a logprob",
    "foreign_ids": "no token of this model",
    "lying_text": "not what its ids decode to",
    "other_prompt": "prompt",
}
STREAM_ONLY = {"no_end", "endless"}
OPTIONS = GatewayOptions(patience=Patience(silence_s=0.5, answer_bytes=1 << 20), tries=2)


@pytest.fixture
def engine() -> Iterator[EngineSimulator]:
    with engine_simulator() as running:
        yield running


def spec(engine: EngineSimulator, kind: Any = "sglang", **fields: Any) -> EngineSpec:
    return EngineSpec(**{"name": kind, "kind": kind, "url": engine.url, **fields})


async def ask(on: Served, dialect: str = "openai_chat", *, stream: bool = False, completion_tokens: int = 2_000, **wishes: Any) -> Answer:
    access = on.open(EPISODE, completion_tokens=completion_tokens)
    speaker = SPEAKERS[dialect](on.url + access.path, access.token)
    try:
        speaker.user("hi")
        return await speaker.ask(stream=stream, **wishes)
    finally:
        await speaker.aclose()


CASES = [
    (fault, kind, incremental)
    for fault in FAULTS
    for kind in ("sglang", "vllm")
    for incremental in (True, False)
    if incremental or fault not in STREAM_ONLY
]


@pytest.mark.parametrize(("fault", "kind", "incremental"), CASES)
async def test_an_engine_that_fails_or_lies_is_a_policy_error_and_nothing_is_kept(
    engine: EngineSimulator,
    fault: Fault,
    kind: str,
    incremental: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    engine.play(lines(Reply("Some words that are said.", fault=fault)))
    async with served(spec(engine, kind, incremental=incremental), options=OPTIONS) as on:
        with pytest.raises(openai.APIStatusError) as told:
            await ask(on, completion_tokens=200)
        sampled = await on.gateway.close(EPISODE)
    assert told.value.status_code == 503
    assert told.value.response.headers["x-should-retry"] == "true"
    assert engine.url not in told.value.response.text
    assert (sampled.calls, sampled.branches) == ((), ())
    (failure,) = sampled.failures
    assert failure.cause == Cause.POLICY
    assert FAULTS[fault] in failure.detail


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
@pytest.mark.parametrize("incremental", [True, False])
async def test_calls_one_after_the_other_share_a_connection(
    engine: EngineSimulator,
    kind: str,
    incremental: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    async with served(spec(engine, kind, incremental=incremental), options=OPTIONS) as on:
        for number in range(3):
            access = on.open(str(number))
            speaker = ChatSpeaker(on.url + access.path, access.token)
            speaker.user("hi")
            await speaker.ask(stream=number % 2 == 0)
            await speaker.aclose()
    assert len(engine.connections) == 1


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
async def test_an_engine_that_lingers_behind_its_end_holds_up_no_answer(engine: EngineSimulator, kind: str) -> None:
    engine.play(lines(Reply("All is said.", fault="lingers")))
    async with served(spec(engine, kind), options=OPTIONS) as on:
        assert (await ask(on)).text == "All is said."


@pytest.mark.parametrize("dialect", list(SPEAKERS))
@pytest.mark.parametrize("fault", ["hang_up", "lying_text", "endless", "no_end"])
async def test_a_stream_that_has_begun_ends_with_an_error(engine: EngineSimulator, fault: Fault, dialect: str) -> None:
    engine.play(lines(Reply("Some words that are said, and some more of them.", fault=fault)))
    async with served(spec(engine), options=OPTIONS) as on:
        with pytest.raises((openai.APIError, anthropic.APIError)):
            await ask(on, dialect, stream=True, completion_tokens=200)
        assert (await on.gateway.close(EPISODE)).failed_calls == 1


async def test_a_response_that_breaks_off_is_told_as_failed(engine: EngineSimulator) -> None:
    engine.play(lines(Reply("Some words that are said, and some more of them.", fault="no_end")))
    async with served(spec(engine), options=OPTIONS) as on:
        access = on.open(EPISODE)
        client = openai.AsyncOpenAI(base_url=f"{on.url}{access.path}/v1", api_key=access.token, max_retries=0)
        events = aiter(await client.responses.create(model="m", input="hi", stream=True))
        told: list[Any] = [await anext(events)]
        while told[-1].type != "response.failed":
            told.append(await anext(events))
        with pytest.raises(openai.APIError, match="the model cannot be asked"):
            await anext(events)
        await client.close()
    assert (told[-1].type, told[-1].response.status) == ("response.failed", "failed")
    assert (told[-1].response.id, told[-1].response.error.code) == (told[0].response.id, "server_error")


async def test_a_deadline_ends_a_slow_call(engine: EngineSimulator) -> None:
    engine.play(lines(Reply("late", delay_s=60.0)))
    async with served(spec(engine), options=GatewayOptions(patience=Patience(whole_s=0.2))) as on:
        with pytest.raises(openai.InternalServerError):
            await ask(on)
        assert "engine sglang: timed out" in (await on.gateway.close(EPISODE)).failures[0].detail


async def test_a_conversation_too_long_for_the_engine_is_not_its_fault(engine: EngineSimulator) -> None:
    engine.play(lines(Reply(fault="context")))
    async with served(spec(engine)) as on:
        with pytest.raises(openai.BadRequestError) as told:
            await ask(on)
        sampled = await on.gateway.close(EPISODE)
    assert told.value.code == "context_length_exceeded"
    assert (sampled.failures, sampled.spent) == ((), "context")


async def test_another_engine_is_asked_as_long_as_nothing_was_sampled(engine: EngineSimulator) -> None:
    with engine_simulator(lines(Reply(fault="status"))) as bad:
        async with served(spec(bad, name="bad"), options=OPTIONS) as on:
            access = on.open(EPISODE)
            speaker = ChatSpeaker(on.url + access.path, access.token)
            speaker.user("hi")
            with pytest.raises(openai.APIStatusError):
                await speaker.ask(stream=False)
            on.gateway.set_engines([spec(bad, name="bad"), spec(engine, name="good")])
            answer = await speaker.ask(stream=False)
            await speaker.aclose()
            sampled = await on.gateway.close(EPISODE)
    assert answer.text == "Hello."
    assert [c.engine for c in sampled.calls] == ["good"]


@pytest.mark.parametrize("kind", ["sglang", "vllm"])
@pytest.mark.parametrize("incremental", [True, False])
async def test_routed_experts_go_to_the_blob_store_by_reference(
    engine: EngineSimulator,
    kind: str,
    incremental: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    packed = bytes(range(256)) * 8
    engine.play(lines(Reply("words", experts=packed, weight_version="v7")))
    async with served(spec(engine, kind, incremental=incremental, experts=True, weight_version="v6")) as on:
        await ask(on)
        sampled = await on.gateway.close(EPISODE)
        (call,) = sampled.calls
        assert call.experts is not None
        assert await on.blobs.get(call.experts.digest) == packed
    assert call.weight_version == ("v7" if kind == "sglang" else "v6")
    assert Sampled.model_validate_json(sampled.model_dump_json()) == sampled


@pytest.mark.parametrize("cumulative", [False, True])
async def test_each_token_has_the_weights_of_the_piece_that_it_came_in(cumulative: bool) -> None:  # noqa: FBT001 - a parameter of the test
    reply = Reply("Words that are said while other weights are loaded.", weight_version="7", reload=(5, "8"))
    with engine_simulator(lines(reply), cumulative=cumulative) as engine:
        async with served(spec(engine)) as on:
            await ask(on)
            sampled = await on.gateway.close(EPISODE)
    (call,), (branch,) = sampled.calls, sampled.branches
    begun, length = call.prompt_length, call.length
    assert [(s.start, s.end, s.weight_version) for s in branch.segments] == [(begun, begun + 5, "7"), (begun + 5, length, "8")]
    assert call.weight_version == "7"


async def test_experts_that_were_asked_for_must_come(engine: EngineSimulator) -> None:
    async with served(spec(engine, experts=True)) as on:
        with pytest.raises(openai.InternalServerError):
            await ask(on)
        assert "no routed experts" in (await on.gateway.close(EPISODE)).failures[0].detail
