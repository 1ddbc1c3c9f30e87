"""Hugging Face's `tokenizers` with a Jinja chat template, as the gateway's tokenizer.

For byte-level BPE (Qwen, Llama 3, DeepSeek, GLM, Mistral's newer ones, GPT): there each token is a string of bytes, so that decoding never
guesses. `tokenizers` and `jinja2` are of the extra `serve`, and imported when a tokenizer is made.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envfarm.core.errors import ContextExhausted, UsageError
from envfarm.gateway.conversation import Message, Tool, ToolCall, parsed, texts
from envfarm.gateway.tokenizer import TemplateRefused

MARK = "envfarm"
"""Stands in a text for something else while a template renders it; a number behind it is one that no text holds."""
LIKELY_CHARS = 8
"""A token's, where a text is dense: most have half of it."""
PIECE_CHARS = 1 << 16
ENDING_TOKENS = 256
"""What stands before a prompt's own words where a template goes on from an answer: it is cut off, and no template says so much."""
ANY_USER = Message("user", "-")
Row = dict[str, Any]


class HuggingFaceTokenizer:
    """One model's tokenizer and template."""

    def __init__(self, tokenizer_json: str, chat_template: str, *, names: Mapping[str, Any] | None = None) -> None:
        """Of the text of `tokenizer.json`. `names` are the template's further variables (`bos_token`, `strftime_now`, …).

        Raises `UsageError` for a tokenizer that is not of bytes, and for a template that is none or cannot say a user's words.
        """
        from jinja2.exceptions import TemplateSyntaxError  # noqa: PLC0415 - an extra
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        description = json.loads(tokenizer_json)
        if not _of_bytes(description):
            raise UsageError("only byte-level BPE tokenizers can be served", hint="tokenizer.json has no ByteLevel decoder")
        added = description.pop("added_tokens")
        # Without its added tokens and what it puts around a text, the tokenizer takes every text for a text.
        self._plain: Any = Tokenizer.from_str(json.dumps({**description, "added_tokens": [], "post_processor": None}))
        self._added: dict[str, int] = {row["content"]: row["id"] for row in added}
        self._size: int = max([*self._added.values(), *description["model"]["vocab"].values()]) + 1
        self._bytes = _token_bytes(description["model"]["vocab"], added)
        self._split = re.compile("|".join(re.escape(t) for t in sorted(self._added, key=len, reverse=True)) or r"(?!)")
        self._names = dict(names or {})
        try:
            self._template: Any = _environment().from_string(chat_template)
        except TemplateSyntaxError as e:
            raise UsageError(f"the chat template is no Jinja template: line {e.lineno}: {e.message}") from e
        self._arguments_as_text = self._takes_text()
        try:
            self.render([ANY_USER], ())
        except TemplateRefused as e:
            raise UsageError(f"the chat template cannot say a user's words: {e}") from e

    @property
    def vocabulary_size(self) -> int:
        """See `ChatTokenizer`."""
        return self._size

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], *, most_tokens: int | None = None) -> list[int]:
        """See `ChatTokenizer`."""
        guard = self._guard(messages, tools, most_tokens)
        return self._encode(self._text(guard.messages, guard.tools, ask=True), guard)

    def render_after_answer(
        self, answer: Message, messages: Sequence[Message], last: int | None, *, most_tokens: int | None = None
    ) -> list[int]:
        """See `ChatTokenizer`. The template says the messages behind a made-up answer; what it says up to there is cut off."""
        # The calls go through the guard with the messages: templates repeat their names where tools answer.
        guard = self._guard([Message("assistant", calls=answer.calls), *messages], (), most_tokens)
        said, new = guard.messages[0], guard.messages[1:]
        user, spoken = self._row(ANY_USER), self._row(Message("assistant", guard.place))
        if not messages or messages[0].role != "tool":
            ids = self._encode(self._behind(guard, [user, spoken, *new], ask=True), guard)
            return ids[1:] if ids and ids[0] == last else ids
        called = {**said, "content": guard.place, "tool_calls": [self._marked(call, guard) for call in said.get("tool_calls", [])]}
        head = self._behind(guard, [user, called], ask=False)
        whole = self._behind(guard, [user, called, *new], ask=True)
        if not whole.startswith(head):
            raise TemplateRefused("the template says a call otherwise when its answer follows")
        ids = self._encode(whole, guard)
        ending = ids[: len(self._encode(head, guard))]
        if last is not None and last in ending:
            # Some models end a call by another token than their words: what they sampled says where the template goes on.
            return ids[len(ending) - ending[::-1].index(last) :]
        closing = self._behind(guard, [user, spoken], ask=False)
        return self._encode(closing + whole[len(head) :], guard)

    def _marked(self, call: Row, guard: "_Guard") -> Row:
        arguments: Any = {"-": guard.place}
        function = {**call["function"], "arguments": json.dumps(arguments) if self._arguments_as_text else arguments}
        return {**call, "function": function}

    def _behind(self, guard: "_Guard", rows: Sequence[Row], *, ask: bool) -> str:
        """What a template says behind the mark that stands for an answer's words."""
        _, found, following = self._text(rows, None, ask=ask).rpartition(guard.place)
        if not found:
            raise TemplateRefused("the template does not say an assistant's words")
        return following

    def token_bytes(self, token: int) -> bytes:
        """See `ChatTokenizer`."""
        try:
            return self._bytes[token]
        except KeyError:
            raise ValueError(f"there is no token {token}") from None

    def encode_text(self, text: str) -> list[int]:
        """A text's ids, in which special tokens' texts are text."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=False).ids
        return ids

    def added_id(self, content: str) -> int:
        """The id of a special or added token. Raises `KeyError`."""
        return self._added[content]

    def _guard(self, messages: Sequence[Message], tools: Sequence[Tool], most_tokens: int | None) -> "_Guard":
        return _Guard(self._split, [self._row(m) for m in messages], [_tool(t) for t in tools], most_tokens)

    def _row(self, message: Message) -> Row:
        return _row(message, as_text=self._arguments_as_text)

    def _takes_text(self) -> bool:
        """Whether the template wants calls' arguments as JSON text; most want data."""
        call = ToolCall("000000000", "-", '{"a": 1}')
        spoken = [ANY_USER, Message("assistant", "-", (call,)), Message("tool", "-", answers=call.call_id)]
        for as_text in (False, True):
            try:
                self._text([_row(m, as_text=as_text) for m in spoken], None, ask=True)
            except TemplateRefused:
                continue
            return as_text
        return False

    def _text(self, messages: Sequence[Row], tools: Sequence[Row] | None, *, ask: bool) -> str:
        from jinja2.exceptions import TemplateError  # noqa: PLC0415 - an extra

        try:
            text: str = self._template.render(messages=messages, tools=tools or None, add_generation_prompt=ask, **self._names)
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as e:
            raise TemplateRefused(str(e) or type(e).__name__) from e
        return text

    def _encode(self, said: str, guard: "_Guard") -> list[int]:
        ids: list[int] = []
        at = 0
        for match in self._split.finditer(said):
            ids += self._encode_plain(said[at : match.start()], guard)
            ids.append(self._added[match[0]])
            at = match.end()
            guard.check(len(ids) - ENDING_TOKENS)
        return ids + self._encode_plain(said[at:], guard)

    def _encode_plain(self, said: str, guard: "_Guard") -> list[int]:
        text = guard.restore(said)
        if len(text) > guard.likely_chars:
            # Cut into pieces a text has some tokens more than as a whole, and never twice as many.
            counted = 0
            for at in range(0, len(text), PIECE_CHARS):
                counted += len(self.encode_text(text[at : at + PIECE_CHARS]))
                guard.check(counted // 2)
        return self.encode_text(text) if text else []


def load(directory: Path) -> HuggingFaceTokenizer:
    """Read a model's directory: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`. Raises `UsageError`."""
    try:
        config = json.loads((directory / "tokenizer_config.json").read_text(encoding="utf-8"))
        template_file = directory / "chat_template.jinja"
        template = template_file.read_text(encoding="utf-8") if template_file.exists() else config["chat_template"]
        names = {k: v if isinstance(v, str) else v["content"] for k, v in config.items() if k.endswith("_token") and v}
        return HuggingFaceTokenizer((directory / "tokenizer.json").read_text(encoding="utf-8"), template, names=names)
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UsageError(f"{directory} holds no tokenizer that can be served: {type(e).__name__}: {e}") from e


class _Guard:
    """Messages and tools with a mark in the place of each special token's text, as rows for a template; and the way back."""

    def __init__(self, special: re.Pattern[str], rows: list[Row], offers: list[Row], most_tokens: int | None) -> None:
        self._most_tokens = math.inf if most_tokens is None else max(most_tokens, 0)
        said = list(texts([rows, offers]))
        number = _unused_number(said)
        self.place = f"{MARK}{number}y"
        """Stands for a made-up answer's words."""
        self._mark = f"{MARK}{number}x"
        self._special = special
        self._hidden: list[str] = []
        self._marked = re.compile(re.escape(self._mark) + r"(\d+)x")
        suspicious = any(special.search(text) for text in said)
        self.messages: list[Row] = self._hide(rows) if suspicious else rows
        self.tools: list[Row] = self._hide(offers) if suspicious else offers

    @property
    def likely_chars(self) -> float:
        """A longer text is hardly as few tokens as there may be."""
        return self._most_tokens * LIKELY_CHARS

    def check(self, tokens: int) -> None:
        """Raises `ContextExhausted` where so many are too many."""
        if tokens > self._most_tokens:
            raise ContextExhausted(
                f"the conversation's new messages have more than {self._most_tokens} tokens, and no more fit the context"
            )

    def restore(self, said: str) -> str:
        """The texts in the place of their marks."""
        return self._marked.sub(lambda m: self._hidden[int(m[1])], said) if self._hidden else said

    def _hide(self, value: Any) -> Any:
        match value:
            case str():
                return self._special.sub(self._replace, value)
            case dict():
                return {self._hide(k): self._hide(v) for k, v in value.items()}
            case list():
                return [self._hide(v) for v in value]
            case _:
                return value

    def _replace(self, match: re.Match[str]) -> str:
        self._hidden.append(match[0])
        return f"{self._mark}{len(self._hidden) - 1}x"


def _unused_number(said: Sequence[str]) -> int:
    """One that stands behind no mark in these texts. Drawn of them, so that no text can hold every one that might be tried."""
    if not any(MARK in text for text in said):
        return 0
    drawn = hashlib.sha256()
    for text in said:
        drawn.update(text.encode(errors="surrogatepass"))
    while any(f"{MARK}{(number := int.from_bytes(drawn.digest()[:6]))}" in text for text in said):
        drawn.update(b"again")
    return number


def _row(message: Message, *, as_text: bool) -> Row:
    row: Row = {"role": message.role, "content": message.text}
    if message.calls:
        row["tool_calls"] = [_call_row(c, c.arguments if as_text else parsed(c.arguments)) for c in message.calls]
    if message.answers:
        row["tool_call_id"] = message.answers
    if message.reasoning:
        row["reasoning_content"] = message.reasoning
    return row


def _call_row(call: ToolCall, arguments: Any) -> Row:
    return {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _tool(tool: Tool) -> Row:
    return {"type": "function", "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters}}


def _environment() -> Any:
    from jinja2.exceptions import TemplateError  # noqa: PLC0415 - an extra
    from jinja2.ext import Extension, loopcontrols  # noqa: PLC0415 - an extra
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415 - an extra

    def refuse(why: str) -> None:
        raise TemplateError(why)

    def to_json(value: Any, indent: int | None = None, **options: Any) -> str:
        return json.dumps(value, ensure_ascii=options.get("ensure_ascii", False), indent=indent)

    class Generation(Extension):
        """Templates for training mark what the assistant says; here the mark says nothing."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    # The same as `transformers` gives templates, without the clock: a prompt must not depend on the day.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation])
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = refuse
    return environment


def _of_bytes(description: Mapping[str, Any]) -> bool:
    decoder = description.get("decoder") or {}
    kinds = {decoder.get("type"), *(d.get("type") for d in decoder.get("decoders", ()))}
    return "ByteLevel" in kinds and isinstance(description.get("model", {}).get("vocab"), dict)


def _token_bytes(vocabulary: Mapping[str, int], added: Sequence[Mapping[str, Any]]) -> dict[int, bytes]:
    byte_of = _byte_of_character()
    table = {}
    for piece, token in vocabulary.items():
        try:
            table[token] = bytes(byte_of[c] for c in piece)
        except KeyError:
            table[token] = piece.encode()
    for row in added:
        table[row["id"]] = b"" if row["special"] else row["content"].encode()
    return table


def _byte_of_character() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others for the characters from 256 on, in order."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + n): b for n, b in enumerate(others)}
