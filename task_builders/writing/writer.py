"""Who writes tasks: a Protocol, and a language model behind an OpenAI-compatible chat endpoint.

An endpoint that fails is the infrastructure's fault: the record stays open for the next build. An answer that is no proposal gets one more
try. Tokens are bounded for each question and for the build.
"""

import json
from typing import Protocol

import httpx

from envfarm.core import digest
from envfarm.core.errors import BuildOutage, ContextExhausted, PolicyError, TaskError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.model_call import ModelCall
from envfarm.core.question import Question
from envfarm.policies import chat_reply
from envfarm.policies.chat_client import ChatClient, RetryPolicy
from task_builders.writing import prompt
from task_builders.writing.prompt import Messages
from task_builders.writing.proposal import NotValid, Proposal, Refusal, parse

ANSWER_TOKENS = 8_000
"""The limit of one answer."""
QUESTION_TOKENS = 64_000
"""The limit for one question, all tries together. A build stops asking when it has fewer left."""
REPEATED_CHARACTERS = 30_000
"""Of an answer that is not valid, when it is sent back."""
CHARACTERS_PER_TOKEN = 4
"""For endpoints that do not tell how many tokens they used."""
TOO_LONG = "the question is too long for the writer's model"


class Spent(Frozen):
    """What asking took."""

    model: str
    prompt: Digest
    """Of the first request's messages."""
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.completion_tokens

    def with_call(self, messages: Messages, call: ModelCall) -> "Spent":
        """With one more call. Tokens that the endpoint does not tell are estimated."""
        sent = sum(len(each["content"]) for each in messages)
        told = [
            count if count is not None else -(-characters // CHARACTERS_PER_TOKEN)
            for count, characters in ((call.prompt_tokens, sent), (call.completion_tokens, len(call.text)))
        ]
        counts = {"prompt_tokens": self.prompt_tokens + told[0], "completion_tokens": self.completion_tokens + told[1]}
        return self.model_copy(update={"requests": self.requests + 1, **counts})


class Written(Frozen):
    """What came of asking a writer about a question."""

    spent: Spent
    proposal: Proposal | None = None
    refusal: str = ""
    """Why the writer makes no task of it."""
    fault: str = ""
    """Why its last answer is no proposal."""


class TaskWriter(Protocol):
    """Proposes tasks."""

    async def propose(self, question: Question, why: str) -> Written:
        """A proposal for a question of which the rules make no task (`why`), or none. Raises `BuildOutage` if the writer cannot be
        reached, and `TaskError` if it must not be asked any more in this build.
        """
        ...


class ChatWriter:
    """A language model. One for each build: it counts the build's tokens."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        model: str,
        *,
        api_key: str = "",
        tokens: int,
        retry: RetryPolicy | None = None,
    ) -> None:
        """`base_url` is without `/chat/completions`; `tokens` is the limit of the build, prompts and answers together."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = ChatClient(http, base_url.rstrip("/") + "/chat/completions", headers=headers, retry=retry or RetryPolicy())
        self._model = model
        self._left = tokens

    async def propose(self, question: Question, why: str) -> Written:
        """See `TaskWriter`."""
        if self._left < QUESTION_TOKENS:
            raise TaskError(
                f"the build's tokens for its writer are used up, but for {self._left}",
                hint="the same command goes on; --writer-tokens is the limit of each build",
            )
        messages = prompt.messages(question, why)
        written = Written(spent=Spent(model=self._model, prompt=digest.of_bytes(json.dumps(messages).encode())))
        self._left -= QUESTION_TOKENS
        try:
            written, said = await self._ask(messages, written.spent)
            if written.fault and 2 * (written.spent.tokens + ANSWER_TOKENS) <= QUESTION_TOKENS:
                written, _ = await self._ask([*messages, *prompt.again(said[:REPEATED_CHARACTERS], written.fault)], written.spent)
        finally:
            self._left += QUESTION_TOKENS - written.spent.tokens
        return written

    async def _ask(self, messages: Messages, spent: Spent) -> tuple[Written, str]:
        """One request: what came of it, and the model's text."""
        try:
            body = {"model": self._model, "messages": messages, "max_tokens": ANSWER_TOKENS}
            call = chat_reply.read(await self._client.complete(body)).call
        except ContextExhausted:
            return Written(spent=spent, refusal=TOO_LONG), ""
        except PolicyError as e:
            hint = "is --writer right, --writer-model, OPENAI_API_KEY? The same command takes the record up again"
            raise BuildOutage(f"the task writer: {e}", hint=hint) from e
        spent = spent.with_call(messages, call)
        try:
            found = parse(call.text)
        except NotValid as e:
            cut = f"it has more than {ANSWER_TOKENS} tokens; " if call.finish_reason == "length" else ""
            return Written(spent=spent, fault=f"{cut}{e}"), call.text
        if isinstance(found, Refusal):
            return Written(spent=spent, refusal=found.refusal), call.text
        return Written(spent=spent, proposal=found), call.text
