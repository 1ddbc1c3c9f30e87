"""Whether a question can be a terminal task. Called by the pipeline's stages for every question."""

from envfarm.core.candidate import Gate, Rejection
from envfarm.core.question import Question
from task_builders.questions.understanding import Misfit, understand

NOT_BUILT = "the question is understood; tasks are not built from questions yet"


def judge(question: Question) -> Rejection:
    """The first reason against it; where there is none, that tasks are not built yet, with what was understood as evidence."""
    found = understand(question)
    who = {"source_digest": question.digest, "name": question.name, "url": question.url}
    if isinstance(found, Misfit):
        return Rejection(**who, gate=Gate.CANDIDATE, reason=found.reason, detail=found.detail)
    evidence = {
        "inputs": [each.name for each in found.inputs],
        "state": found.state,
        "tools": list(found.tools),
        "packages": list(found.packages),
        "answers": found.independent,
    }
    return Rejection(**who, gate=Gate.SETUP, reason=NOT_BUILT, evidence=evidence)
