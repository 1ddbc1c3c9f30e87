"""A request's prompt in ids: known tokens as they were sampled, new messages by the template.

Pure. What an assistant is made to say and did not say there is rendered from its text, and told as drift: it is never put together from
tokens of other places.
"""

from array import array

from envfarm.core.sampled import DriftSpan
from envfarm.gateway.conversation import Asked
from envfarm.gateway.forest import Forest, Known, Prompt
from envfarm.gateway.tokenizer import ChatTokenizer, TemplateRefused


def build(forest: Forest, tokenizer: ChatTokenizer, asked: Asked, most_tokens: int | None = None) -> Prompt:
    """The prompt. Raises `TemplateRefused` where the template cannot say the messages in any way.

    Raises `ContextExhausted` for one that is surely longer than `most_tokens`, without the work of counting it.
    """
    known = forest.known(asked)
    if known.prompt is not None:
        # Asked again: the same tokens, wherever they came from.
        return forest.prompt(known.prompt)
    if known.call is not None:
        try:
            answer, new = asked.messages[known.consumed - 1], asked.messages[known.consumed :]
            left = None if most_tokens is None else most_tokens - forest.length(known.call)
            added = tokenizer.render_after_answer(answer, new, forest.last_id(known.call), most_tokens=left)
        except TemplateRefused:
            # Some templates cannot go on from an answer: then everything is said anew, and all answers in it are drift.
            known = Known(None, 0)
        else:
            return _prompt(forest, asked, known, added)
    return _prompt(forest, asked, known, tokenizer.render(asked.messages, asked.tools, most_tokens=most_tokens))


def _prompt(forest: Forest, asked: Asked, known: Known, added: list[int]) -> Prompt:
    assistants = sum(m.role == "assistant" for m in asked.messages[known.consumed :])
    drift = DriftSpan(start=0, end=len(added), reason=forest.drift_reason(), messages=assistants) if assistants else None
    return Prompt(known.call, array("i", added), forest.length(known.call) + len(added), drift)
