"""Whether a question can become a terminal task."""

from dataclasses import dataclass

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.question import Question
from task_builders.questions.joining import Misfit
from task_builders.questions.understanding import Understood, understand


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A question that the rules reject and that a task writer is asked about."""

    rejection: Rejection


def judge(question: Question) -> Understood | Rejection:
    """What a task could be made of, or the first reason against it."""
    found = understand(question)
    if isinstance(found, Misfit):
        return Rejection.of(question, Gate.CANDIDATE, found.reason, found.detail)
    return found
