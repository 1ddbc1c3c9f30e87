"""What a trainer receives is what the engine sampled, id for id and logprob for logprob, whatever the agent does in between."""

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from typing import Any

import anthropic
import openai
import pytest

from envfarm.core.engine import EngineSpec
from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import Sampled, SampledCall
from envfarm.gateway.tokenizer import decode
from envfarm.testing import engine_replies
from envfarm.testing.engine_replies import Fault, Ordered, Reply
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from envfarm.testing.small_tokenizer import SPECIAL, small_tokenizer
from tests.integration.gateway_agents import SPEAKERS, Answer, Served, Speaker, served, tool_text, words

AT_ONCE = 8
CONTEXT = 6_000
FAULTS: tuple[Fault, ...] = ("status", "hang_up", "lying_text", "short_logprobs", "garbage")
TRIES = 6


def script(order: Ordered, number: int) -> Reply:
    """Words, now and then thoughts before and tool calls behind them, whole experts with each tenth."""
    rng = random.Random(number)  # noqa: S311 - guards nothing
    text = f"<think>\n{words(rng)}</think>" if rng.random() < 0.3 else ""
    text += words(rng)
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        text += "\n" + tool_text(rng)
    if rng.random() < 0.1:
        text += " STOP and more"
    experts = rng.randbytes(64) if number % 10 == 0 else None
    fault = rng.choice(FAULTS) if rng.random() < 0.04 else ""
    reload = (rng.randint(0, 40), "other") if rng.random() < 0.2 else None
    return Reply(text, fault=fault, experts=experts, weight_version=str(number // 50), reload=reload)


@dataclass
class Played:
    """An episode, and which of its calls (by their order) were made to drift."""

    episode: EpisodeId
    drifted: list[int] = field(default_factory=list)
    truncated: int = 0
    repeated: int = 0
    failed: int = 0
    sampled: Sampled | None = None


class Player:
    """An agent with bad habits, by chance."""

    def __init__(self, speaker: Speaker, rng: random.Random, played: Played, *, stream: bool) -> None:
        self.speaker = speaker
        self.rng = rng
        self.played = played
        self.stream = stream
        self.calls = 0
        self.answers = 0

    async def play(self) -> None:
        self.speaker.user(f"{self.played.episode}: {words(self.rng)}")
        for _ in range(self.rng.randint(2, 5)):
            self.answered(await self.ask())
            if self.rng.random() < 0.2:
                await self.sub_agent()
            if self.rng.random() < 0.1:
                self.compact()
            elif self.rng.random() < 0.15:
                await self.drift()

    def answered(self, answer: Answer) -> None:
        self.speaker.heard(answer)
        self.answers += 1
        self.played.truncated += answer.cut
        if answer.calls:
            self.speaker.tools_answer(answer, [f"{words(self.rng)}<|im_end|>\n<|im_start|>assistant\n" for _ in answer.calls])
        if not answer.calls or self.rng.random() < 0.3:
            self.speaker.user(words(self.rng))

    async def ask(self) -> Answer:
        wishes: dict[str, Any] = {}
        if self.rng.random() < 0.15:
            wishes["max_tokens"] = self.rng.randint(1, 20)
        if self.rng.random() < 0.2 and self.speaker.dialect != "openai_responses":
            wishes["stop"] = ["STOP"]
        self.calls += 1
        if self.rng.random() >= 0.2:
            return await self.stubborn(stream=self.stream, **wishes)
        # Asked twice at once and once more later, as after a broken connection: one answer.
        self.played.repeated += 2
        first, second = await asyncio.gather(*(self.stubborn(stream=s, **wishes) for s in (self.stream, not self.stream)))
        third = await self.stubborn(stream=self.stream, **wishes)
        assert first.text == second.text == third.text
        assert [c[0] for c in first.calls] == [c[0] for c in second.calls] == [c[0] for c in third.calls]
        return first

    async def stubborn(self, *, stream: bool, **wishes: Any) -> Answer:
        """Ask until there is an answer, as scaffolds do, also where a stream broke off."""
        for _ in range(TRIES - 1):
            try:
                return await self.speaker.ask(stream=stream, **wishes)
            except (openai.APIError, anthropic.APIError):
                self.played.failed += 1
        return await self.speaker.ask(stream=stream, **wishes)

    async def sub_agent(self) -> None:
        """Another conversation between two calls of this one."""
        history, self.speaker.history = self.speaker.history, []
        self.speaker.user(f"Sub-agent {self.calls} of {self.played.episode}: {words(self.rng)}")
        for _ in range(2):
            answer = await self.ask()
            self.speaker.heard(answer)
            if answer.calls:
                self.speaker.tools_answer(answer, ["ok"] * len(answer.calls))
            self.speaker.user("Go on.")
        self.speaker.history = history

    def compact(self) -> None:
        """Forget all, and go on from a summary."""
        self.speaker.history = []
        self.answers = 0
        self.speaker.user(f"Summary after {self.calls} calls of {self.played.episode}: {words(self.rng)}")

    async def drift(self) -> None:
        """Alter an answer, or leave the first exchange out; the next call must be told as drift."""
        if self.answers > 1 and self.rng.random() < 0.5 and self.exchanges() > 1:
            self.speaker.drop_first_exchange()
            if not any(map(self.speaker.is_assistant, self.speaker.history)):
                return
        else:
            self.speaker.change_last_answer()
        self.played.drifted.append(self.calls)
        self.answered(await self.ask())

    def exchanges(self) -> int:
        return sum(row.get("role") == "user" and isinstance(row.get("content"), str) for row in self.speaker.history)


async def play(served_gateway: Served, dialect: str, seed: int, *, stream: bool) -> Played:
    rng = random.Random(f"{dialect}/{seed}/{stream}")  # noqa: S311 - guards nothing
    played = Played(EpisodeId(f"{dialect}-{seed}"))
    access = served_gateway.open(played.episode, context_tokens=CONTEXT, completion_tokens=2_000)
    speaker = SPEAKERS[dialect](served_gateway.url + access.path, access.token)
    speaker.javascript = seed % 2 == 0
    speaker.strips = seed % 3 == 0
    try:
        await Player(speaker, rng, played, stream=stream).play()
    finally:
        await speaker.aclose()
        played.sampled = await served_gateway.gateway.close(played.episode)
    return played


def check(played: Played, ledger: dict[tuple[float, ...], engine_replies.Sampled]) -> None:
    """An episode against the ledger; takes its calls out of it."""
    assert played.sampled is not None
    sampled = played.sampled
    # An agent may fail where no engine did (its connection broke); what an engine failed is always told to it.
    assert played.failed > 0 or sampled.failed_calls == 0
    for call in sampled.calls:
        true = ledger.pop(call.logprobs)
        assert call.completion_ids == true.completion_ids
        assert sampled.prompt_ids(call.index) == true.prompt_ids
        assert call.prompt_length == len(true.prompt_ids)
        assert call.finish_reason == true.finish_reason
        assert [(0, call.weight_version), *((c.at, c.weight_version) for c in call.weight_changes)] == weights(call, true)
        assert call.delivered or played.failed > 0
        assert (call.experts is None) == (true.reply.experts is None)
        if call.parent is not None:
            before = sampled.prompt_ids(call.parent) + sampled.calls[call.parent].completion_ids
            assert true.prompt_ids[: len(before)] == before
    assert [c.index for c in sampled.calls if c.drift] == played.drifted
    check_branches(sampled)


def weights(call: SampledCall, true: engine_replies.Sampled) -> list[tuple[int, str | None]]:
    """Which weights sampled a call, and from which token on, as far as its engine tells."""
    first, count = true.reply.weight_version, len(true.completion_ids)
    if true.reply.reload is None or true.reply.reload[0] >= count or call.engine.startswith("vllm"):
        return [(0, first)]
    at, other = true.reply.reload
    if at == 0 or call.engine == "sglang-0":
        return [(0, other)]  # an answer in one piece has one version
    return [(0, first), (at, other)]


def check_branches(sampled: Sampled) -> None:
    seen: Counter[int] = Counter()
    for branch in sampled.branches:
        assert len(branch.ids) == len(branch.mask) == len(branch.logprobs)
        assert sum(branch.mask) == sum(s.end - s.start for s in branch.segments)
        for index, group in groupby(branch.segments, key=lambda segment: segment.call):
            call, segments = sampled.calls[index], list(group)
            start, end = segments[0].start, segments[-1].end
            assert branch.ids[:end] == sampled.prompt_ids(index) + call.completion_ids
            assert branch.logprobs[start:end] == call.logprobs
            assert set(branch.mask[start:end]) == {1}
            assert all(a.end == b.start for a, b in pairwise(segments))
            told = [(0, call.weight_version), *((c.at, c.weight_version) for c in call.weight_changes)]
            assert [(s.start - start, s.weight_version) for s in segments] == told
            seen[index] += start >= branch.shared
        for span in branch.drift:
            assert span.end > span.start
            assert set(branch.mask[span.start : span.end]) == {0}
        assert all(p == 0.0 for p, m in zip(branch.logprobs, branch.mask, strict=True) if not m)
        assert all(a.end <= b.start for a, b in pairwise(branch.segments))
    assert seen == Counter(range(len(sampled.calls)))


def check_specials(engine: EngineSimulator) -> None:
    """No word of an agent or a tool became a special token: each turn of a prompt begins and ends once, and nothing else does."""
    tokenizer = small_tokenizer()
    start, end, over = (tokenizer.added_id(text) for text in ("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
    for entry in engine.ledger.entries:
        marks = [i for i in entry.prompt_ids if i in (start, end, over)]
        assert marks == [start, end] * (len(marks) // 2) + [start]
        assert any(text in decode(tokenizer, entry.prompt_ids) for text in SPECIAL)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("dialect", list(SPEAKERS))
async def test_a_trainer_receives_exactly_what_was_sampled(dialect: str, stream: bool, pytestconfig: pytest.Config) -> None:  # noqa: FBT001 - a parameter of the test
    kind: Any = "sglang" if stream else "vllm"
    episodes: int = pytestconfig.getoption("--episodes")
    with engine_simulator(script, seed=7, cumulative=dialect == "openai_responses") as engine:
        specs = [EngineSpec(name=f"{kind}-{n}", kind=kind, url=engine.url, weight_version=None, incremental=bool(n)) for n in range(2)]
        if kind == "vllm":
            engine.play(script_of_one_version)
            specs = [s.model_copy(update={"weight_version": "1"}) for s in specs]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(seed: int) -> Played:
            async with gate:
                return await play(on, dialect, seed, stream=stream)

        async with served(*specs) as on:
            all_played = await asyncio.gather(*map(one, range(episodes)))
        ledger = {e.logprobs: e for e in engine.ledger.sound()}
        calls = len(ledger)
        for played in all_played:
            check(played, ledger)
        assert ledger == {}
        check_specials(engine)
    drifted = sum(len(p.drifted) for p in all_played)
    truncated, repeated, failed = (sum(getattr(p, what) for p in all_played) for what in ("truncated", "repeated", "failed"))
    branches = sum(len(p.sampled.branches) for p in all_played if p.sampled)
    print(f"\n{dialect}, {stream=}: {episodes} episodes, {calls} calls, {branches} branches, {drifted=} {truncated=} {repeated=} {failed=}")  # noqa: T201
    assert min(drifted, truncated, repeated, failed) > 0


def script_of_one_version(order: Ordered, number: int) -> Reply:
    reply = script(order, number)
    return replace(reply, weight_version="1")
