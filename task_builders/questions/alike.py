"""Detects questions that would become the same task twice: by nearly equal words, or by an equal example. Pure.

The first question in the sources' order is kept. A later question with the same input and the same wanted output asks for the same program,
even in other words.
"""

import hashlib
from collections.abc import Iterable

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.question import Question
from task_builders.candidates.dedup import NEARLY_THE_SAME, NearTexts
from task_builders.questions import blocks
from task_builders.questions.understanding import Understood

SAME_EXAMPLE = "the same input with the same output was seen before"


class AlikeQuestions:
    """The questions seen so far."""

    def __init__(self) -> None:
        self._texts = NearTexts()
        self._examples: dict[str, str] = {}

    def check(self, question: Question, understood: Understood | None) -> Rejection | None:
        """The rejection of a question that was seen before, with the first one as evidence. A new question is remembered and gives None.
        Of a question that is not understood only the words are compared.
        """
        key = example((each.text for each in understood.inputs), understood.desired) if understood else ""
        if key and (first := self._examples.get(key)):
            return _reject(question, SAME_EXAMPLE, {"first": first, "example": key})
        text = "\n".join([question.title, *(piece.text for piece in blocks.pieces(question.body))])
        if (near := self._texts.seen(text, question.url)) is not None:
            return _reject(question, NEARLY_THE_SAME, {"first": near[0], "alike": round(near[1], 2)})
        if key:
            self._examples[key] = question.url
        return None


def example(inputs: Iterable[str], output: str) -> str:
    """A hash of the words of the inputs (in any order of files) and of the wanted output; empty if no output is shown."""
    if not output:
        return ""
    parts = "\0".join([*sorted(" ".join(text.split()) for text in inputs), "", " ".join(output.split())])
    return "sha256:" + hashlib.sha256(parts.encode(errors="surrogatepass")).hexdigest()


def _reject(question: Question, reason: str, evidence: dict[str, object]) -> Rejection:
    return Rejection.of(question, Gate.DUPLICATE, reason, str(evidence["first"]), evidence=evidence)
