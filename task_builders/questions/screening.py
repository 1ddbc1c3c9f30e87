"""Whether a question can become a terminal task."""

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.question import Question
from task_builders.questions.joining import Misfit
from task_builders.questions.understanding import Understood, understand


def judge(question: Question) -> Understood | Rejection:
    """What a task could be made of, or the first reason against it."""
    found = understand(question)
    who = {"source_digest": question.digest, "name": question.name, "url": question.url}
    if isinstance(found, Misfit):
        return Rejection(**who, gate=Gate.CANDIDATE, reason=found.reason, detail=found.detail)
    return found
