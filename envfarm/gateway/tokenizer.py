"""Messages to ids and back: what the gateway needs of a policy's tokenizer and chat template.

The contract, and the reading of a stream of tokens. Pure. `hugging_face` is the adapter for real models.
"""

import codecs
from collections.abc import Sequence
from itertools import takewhile
from typing import Protocol

from envfarm.gateway.conversation import Message, Tool

LAST_TOKENS = 32
"""Enough for a word that opens something, however it is cut into tokens."""


class ChatTokenizer(Protocol):
    """A tokenizer with its chat template. Immutable: any number of sessions share one, in threads too."""

    @property
    def vocabulary_size(self) -> int:
        """Ids are below it."""
        ...

    def render(self, messages: Sequence[Message], tools: Sequence[Tool], *, most_tokens: int | None = None) -> list[int]:
        """The prompt that asks for the next answer of the assistant.

        Only the template's own words become special tokens: where a message holds a special token's text, it stays text. Raises
        `TemplateRefused` where the template cannot say these messages; `ContextExhausted` for one that is far longer than
        `most_tokens`, without encoding all of it; not for each that is longer.
        """
        ...

    def render_after_answer(
        self, answer: Message, messages: Sequence[Message], last: int | None, *, most_tokens: int | None = None
    ) -> list[int]:
        """What stands between an answer's last token (`last`, None for an answer without tokens) and the next answer, with `messages` said.

        It ends the assistant's turn, unless `last` ended it. Of what stands before it knows the answer's calls alone, since templates
        say which tool it is that answers. Raises as above.
        """
        ...

    def token_bytes(self, token: int) -> bytes:
        """What a token stands for; nothing for special tokens. Raises `ValueError` for an id that is none."""
        ...


class TemplateRefused(Exception):  # noqa: N818 - a state of the world: the template has no words for these messages
    """The chat template raises for these messages: roles out of order, a role that it does not know."""


class TextStream:
    """Text out of tokens as they come: a character is given when its last byte is there.

    However the tokens are cut into pieces, the pieces of text add up to what all tokens decode to.
    """

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, ids: Sequence[int]) -> str:
        """The text that these ids complete. Raises `ValueError` for an id that is none."""
        return self._decoder.decode(b"".join(map(self._tokenizer.token_bytes, ids)))

    def end(self) -> str:
        """What is left: a replacement character for a character that never came to its end."""
        return self._decoder.decode(b"", final=True)


def decode(tokenizer: ChatTokenizer, ids: Sequence[int]) -> str:
    """The text of all ids, without special tokens. Raises `ValueError` for an id that is none."""
    return b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", errors="replace")


def last_words(tokenizer: ChatTokenizer, ids: Sequence[int]) -> str:
    """The text at a prompt's end, behind its last special token (the template's own, where it begins answers by one): a few words."""
    pieces = takewhile(bool, map(tokenizer.token_bytes, reversed(ids[-LAST_TOKENS:])))
    return b"".join([*pieces][::-1]).decode("utf-8", errors="replace")
