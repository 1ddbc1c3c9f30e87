"""A request that is large costs its own episode, and not the event loop that all of them share."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.errors import ContextExhausted
from envfarm.core.ids import EpisodeId
from envfarm.core.observing import UNOBSERVED
from envfarm.core.program import Allowance
from envfarm.gateway.app import gateway_app
from envfarm.gateway.conversation import Asked, Message
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.hugging_face import PIECE_CHARS, HuggingFaceTokenizer
from envfarm.gateway.intake import LARGE_BYTES, LARGE_PARTS, Room, is_large
from envfarm.gateway.limits import GatewayOptions
from envfarm.gateway.problems import Refused
from envfarm.gateway.routing import Routing
from envfarm.gateway.service import Gateway
from envfarm.gateway.session import Session, Shared
from envfarm.gateway.tokenizer import decode
from envfarm.testing.factories import HeldClock
from envfarm.testing.small_tokenizer import TEMPLATE, small_tokenizer, tokenizer_json

TOKENIZER = small_tokenizer()


class Watched(HuggingFaceTokenizer):
    """Notes how much it encodes, in which threads, and how many at once."""

    def __init__(self) -> None:
        self.forget()
        super().__init__(tokenizer_json(), TEMPLATE, names={"eos_token": "<|im_end|>"})
        self.forget()

    def forget(self) -> None:
        self.chars = 0
        self.threads: set[int] = set()
        self.at_once = self.most_at_once = 0

    def encode_text(self, text: str) -> list[int]:
        self.chars += len(text)
        self.threads.add(threading.get_ident())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return super().encode_text(text)
        finally:
            self.at_once -= 1


@dataclass
class Table:
    """A session with threads enough for two at once."""

    context_tokens: int = 32_768
    options: GatewayOptions = field(default_factory=GatewayOptions)
    tokenizer: Watched = field(default_factory=Watched)

    def __post_init__(self) -> None:
        at, workers = (Routing(), HeldClock(), None, self.options), ThreadPoolExecutor(2)
        self.session = Session(
            EpisodeId("e"),
            Allowance(calls=9, context_tokens=self.context_tokens),
            Shared(self.tokenizer, *at, workers=workers, room=Room(1, 1), observer=UNOBSERVED),
        )


def asked(text: str) -> Asked:
    return Asked((Message("user", text),), large=is_large(text.encode()))


async def test_a_large_prompt_is_encoded_beside_the_event_loop_and_one_after_the_other() -> None:
    table = Table(1_000_000)
    await asyncio.gather(*(table.session.count(asked(f"{n} word " * 20_000)) for n in range(4)))
    assert threading.get_ident() not in table.tokenizer.threads
    assert table.tokenizer.most_at_once == 1
    await table.session.count(asked("word " * (LARGE_BYTES // 10)))
    assert threading.get_ident() in table.tokenizer.threads
    assert is_large(b"[" * (LARGE_PARTS + 1))  # short, and as much work


async def test_of_a_prompt_that_no_context_holds_no_more_is_encoded_than_shows_it() -> None:
    table = Table(1_000)
    with pytest.raises(ContextExhausted):
        await table.session.count(asked("some words " * 200_000))
    assert table.tokenizer.chars <= 2 * PIECE_CHARS


async def test_counting_is_counted() -> None:
    table = Table(options=GatewayOptions(counts=2))
    assert await table.session.count(asked("hi")) == await table.session.count(asked("hi"))
    with pytest.raises(Refused, match="2 prompts"):
        await table.session.count(asked("hi"))
    assert not table.session.used_up.is_set()


@given(st.text(st.sampled_from(" aé😀\n") | st.sampled_from("<|im_start|>"), max_size=60), st.integers(1, 30))
def test_a_prompt_that_fits_is_never_refused(text: str, times: int) -> None:
    messages = [Message("user", text * times)]
    whole = TOKENIZER.render(messages, ())
    assert TOKENIZER.render(messages, (), most_tokens=len(whole)) == whole
    after = TOKENIZER.render_after_answer(Message("assistant", "a"), messages, None)
    assert TOKENIZER.render_after_answer(Message("assistant", "a"), messages, None, most_tokens=len(after)) == after


def test_marks_in_a_text_cost_one_look_and_stay_what_they_are() -> None:
    for text in (" ".join(f"envfarm{n}x0x" for n in range(30)) + " <|im_end|>", "<|im_end|>envfarm" + "1" * 50):
        assert text in decode(TOKENIZER, TOKENIZER.render([Message("user", text)], ()))
    # A look for each of these would take longer than a test may.
    many = "<|im_end|>" + " ".join(f"envfarm{n}x0x" for n in range(300_000))
    with pytest.raises(ContextExhausted):
        TOKENIZER.render([Message("user", many)], (), most_tokens=100)


async def test_a_body_of_many_parts_is_not_read() -> None:
    hi: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]}
    async with engine_session() as http:
        gateway = Gateway(TOKENIZER, http, clock=HeldClock(), options=GatewayOptions(request_parts=100))
        headers = {"x-api-key": gateway.open(EpisodeId("e"), Allowance(calls=9))}
        app = httpx.ASGITransport(gateway_app(gateway, EpisodeId("e")))
        async with httpx.AsyncClient(transport=app, base_url="http://gateway", headers=headers) as client:
            for body, status in ((hi, 200), (hi | {"metadata": [[]] * 100}, 413)):
                answer = await client.post("/v1/messages/count_tokens", json=body)
                assert answer.status_code == status, answer.text
        await gateway.aclose()
