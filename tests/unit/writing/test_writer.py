"""Asking a language model for a task, over HTTP."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from envfarm.core.errors import BuildOutage, TaskError
from envfarm.policies.chat_client import RetryPolicy
from envfarm.testing.chat_server import ChatServer, Line, chat_server
from task_builders.writing import prompt
from task_builders.writing.writer import QUESTION_TOKENS, TOO_LONG, ChatWriter
from tests.unit.questions.asked import question
from tests.unit.writing.proposals import GOOD, answer

ASKED = question("<p>How do I order my stock?</p>", "<p>With <code>sort</code>.</p>", "<p>With awk.</p>")
AT_ONCE = RetryPolicy(tries=2, first_wait_s=0, longest_wait_s=0)


@asynccontextmanager
async def writing(script: Sequence[Line], tokens: int = 1_000_000) -> AsyncIterator[tuple[ChatWriter, ChatServer]]:
    async with chat_server(script) as server, httpx.AsyncClient() as http:
        yield ChatWriter(http, server.base_url, "made-up", api_key="sesame", tokens=tokens, retry=AT_ONCE), server


async def test_the_model_sees_the_post_as_data_and_its_tokens_are_counted() -> None:
    async with writing([answer(GOOD, prompt_tokens=900, completion_tokens=500)]) as (writer, server):
        written = await writer.propose(ASKED, "no input is shown")
    assert written.proposal is not None
    assert (written.spent.model, written.spent.requests) == ("made-up", 1)
    assert (written.spent.prompt_tokens, written.spent.completion_tokens) == (900, 500)
    assert server.headers[0]["authorization"] == "Bearer sesame"
    sent = json.loads(server.requests[0]["messages"][1]["content"])
    assert sent["question"] == ASKED.body
    assert sent["answers"] == [each.body for each in ASKED.answers]
    assert sent["why rules make no task of it"] == "no input is shown"


async def test_an_answer_that_is_not_valid_gets_one_more_try_with_the_fault_told() -> None:
    bad = answer({**GOOD, "packages": ["nmap"]}, prompt_tokens=900, completion_tokens=500)
    async with writing([bad, answer(GOOD, prompt_tokens=1500, completion_tokens=400)]) as (writer, server):
        written = await writer.propose(ASKED, "")
        assert written.proposal is not None
        assert "only these packages are known" in server.requests[1]["messages"][-1]["content"]
        assert server.requests[1]["messages"][-2]["role"] == "assistant"
        assert (written.spent.requests, written.spent.tokens) == (2, 3300)
    async with writing([bad]) as (writer, server):
        written = await writer.propose(ASKED, "")
        assert (written.proposal, len(server.requests)) == (None, 2)
        assert "packages" in written.fault


async def test_a_first_try_that_used_much_gets_no_second_one() -> None:
    async with writing([answer("no", prompt_tokens=QUESTION_TOKENS // 2, completion_tokens=1)]) as (writer, server):
        assert (await writer.propose(ASKED, "")).fault
        assert len(server.requests) == 1


async def test_tokens_that_the_endpoint_does_not_tell_are_estimated() -> None:
    async with writing([answer({"refusal": "it has no definite output"})]) as (writer, _):
        written = await writer.propose(ASKED, "")
    assert written.refusal == "it has no definite output"
    assert written.spent.prompt_tokens > 500
    assert written.spent.completion_tokens > 5


@pytest.mark.parametrize(
    "line", [Line(status=500), Line(status=429), Line(status=401, body={"error": "who?"}), Line(hang_up=True), Line(body={"no": "choices"})]
)
async def test_an_endpoint_that_fails_is_an_outage(line: Line) -> None:
    async with writing([line]) as (writer, _):
        with pytest.raises(BuildOutage, match="task writer") as caught:
            await writer.propose(ASKED, "")
    assert "sesame" not in f"{caught.value} {caught.value.hint}"


async def test_a_model_without_room_for_the_question_makes_no_task_of_it() -> None:
    said = {"error": {"message": "This model's maximum context length is 512 tokens.", "code": "context_length_exceeded"}}
    async with writing([Line(status=400, body=said)]) as (writer, _):
        assert (await writer.propose(ASKED, "")).refusal == TOO_LONG


async def test_a_build_stops_asking_before_its_tokens_are_used_up() -> None:
    lines = [answer(GOOD, prompt_tokens=1000, completion_tokens=1000), Line(status=500)]
    async with writing(lines, tokens=QUESTION_TOKENS + 2000) as (writer, server):
        await writer.propose(ASKED, "")
        with pytest.raises(BuildOutage):
            await writer.propose(ASKED, "")
        server.script = [answer(GOOD, prompt_tokens=1, completion_tokens=0)]
        await writer.propose(ASKED, "")
        asked = len(server.requests)
        with pytest.raises(TaskError, match="tokens for its writer are used up") as caught:
            await writer.propose(ASKED, "")
        assert len(server.requests) == asked
    assert "--writer-tokens" in caught.value.hint


def test_a_long_post_is_cut() -> None:
    long = question("<p>" + "x" * 100_000, *["<p>" + "y" * 100_000] * 9)
    messages = prompt.messages(long, "")
    assert sum(len(each["content"]) for each in messages) < 32_000
