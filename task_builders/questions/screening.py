"""Whether a question can be a terminal task. Called by the pipeline's stages for every question."""

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.question import Question

NOT_BUILT = "the question is understood; tasks are not built from questions yet"


def judge(question: Question) -> Rejection:
    """The first reason against it."""
    return Rejection(source_digest=question.digest, name=question.name, url=question.url, gate=Gate.CANDIDATE, reason=NOT_BUILT)
