"""A policy that asks an OpenAI-compatible chat endpoint for tool calls: OpenAI, vLLM, SGLang and others.

It depends on the instruction and the history only, so an episode can be resumed in another process. The model's own messages are sent back
unchanged. The system prompt says what the tools' descriptions cannot say, and prescribes no workflow.
"""

import json
from collections.abc import Sequence
from typing import Any

import httpx
from pydantic import Field

from envfarm.core.action import Decision
from envfarm.core.episode import derived_seed
from envfarm.core.frozen import Frozen
from envfarm.core.trajectory import Step
from envfarm.policies import chat_reply, tool_calls
from envfarm.policies.chat_client import ChatClient, RetryPolicy

SYSTEM_PROMPT = (
    "You work in a Linux sandbox without network. Solve the task by calling the tools, one call at a time. "
    "The work dir is {work_dir}. Call finish when you are done."
)


class ChatOptions(Frozen):
    """A chat policy's options, from a run's configuration. The API key is not among them: it must not be stored with episodes."""

    model: str
    base_url: str = "http://127.0.0.1:8000/v1"
    """Without `/chat/completions`."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = Field(default=None, gt=0)
    """The limit per completion."""
    use_seed: bool = True
    """Whether each call is sent a seed of its own."""
    logprobs: bool = False
    return_token_ids: bool = False
    """An extension of vLLM and SGLang; OpenAI's endpoint refuses it."""
    send_reasoning: bool = False
    """Whether the model's reasoning of earlier turns is sent back: some templates need it, some endpoints refuse it."""
    system_prompt: str = SYSTEM_PROMPT
    """`{work_dir}` is replaced."""
    extra_body: dict[str, Any] = {}
    """Further keys of the request; they override all others, and null removes a key."""
    patience: RetryPolicy = RetryPolicy()


class OpenAIChat:
    """Plays one episode with a model."""

    def __init__(self, options: ChatOptions, http: httpx.AsyncClient, *, work_dir: str, seed: int = 0, api_key: str = "") -> None:
        self._options = options
        self._work_dir = work_dir
        self._seed = seed
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        url = options.base_url.rstrip("/") + "/chat/completions"
        self._client = ChatClient(http, url, headers=headers, retry=options.patience, seed=seed)

    @property
    def outage_s(self) -> float:
        """See `TellsOutages.outage_s`."""
        return self._client.outage_s

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:
        """Ask for the next call. Raises `PolicyError` and `ContextExhausted`."""
        reply = chat_reply.read(await self._client.complete(self.request(instruction, history)))
        return Decision(reply.action, reply.call)

    def request(self, instruction: str, history: Sequence[Step]) -> dict[str, Any]:
        """The request's body."""
        o = self._options
        body: dict[str, Any] = {
            "model": o.model,
            "messages": self._messages(instruction, history),
            "tools": tool_calls.schemas(),
            "parallel_tool_calls": False,
            "temperature": o.temperature,
            "top_p": o.top_p,
            "max_tokens": o.max_tokens,
            "seed": derived_seed(self._seed, len(history)) if o.use_seed else None,
            "logprobs": o.logprobs or None,
            "return_token_ids": o.return_token_ids or None,
            **o.extra_body,
        }
        return {k: v for k, v in body.items() if v is not None}

    def _messages(self, instruction: str, history: Sequence[Step]) -> list[dict[str, Any]]:
        system = self._options.system_prompt.replace("{work_dir}", self._work_dir)
        messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": instruction})
        for step in history:
            messages.extend(self._turn(step))
        return messages

    def _turn(self, step: Step) -> list[dict[str, Any]]:
        said = step.call.message if step.call and step.call.message else _as_if_called(step)
        if not self._options.send_reasoning:
            said = {k: v for k, v in said.items() if k not in {"reasoning_content", "reasoning"}}
        said = {"content": None, **said} if "tool_calls" in said else {"content": "", **said}
        seen = step.observation.text
        calls = said.get("tool_calls")
        ids = [c.get("id") for c in calls if isinstance(c, dict)] if isinstance(calls, list) else []
        if not ids or not all(isinstance(i, str) and i for i in ids):
            # There is no call to answer, so the observation goes into a user message.
            return [
                {k: v for k, v in said.items() if k != "tool_calls"} | {"content": said["content"] or ""},
                {"role": "user", "content": seen},
            ]
        return [said, *({"role": "tool", "tool_call_id": i, "content": seen} for i in ids)]


def _as_if_called(step: Step) -> dict[str, Any]:
    """The message for a step that was not made by a model."""
    function = {"name": step.action.tool, "arguments": json.dumps(tool_calls.arguments_of(step.action), ensure_ascii=False)}
    return {"role": "assistant", "tool_calls": [{"id": f"call_{step.index}", "type": "function", "function": function}]}
