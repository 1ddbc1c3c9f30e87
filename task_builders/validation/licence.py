"""The licence gate: the task says whose work it is and under which terms it may be used. Pure."""

from envfarm.core.candidate import Gate
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.candidates.licence import Terms, terms


def judge(task: Task) -> GateResult:
    """The licence must be known, and so must an address for attribution."""
    named = task.attribution
    known = terms(named.licence)
    problems = ["the licence is not known"] if known is Terms.UNKNOWN else []
    problems += [] if named.url else ["no address is given to attribute the work to"]
    evidence = {"licence": named.licence, "terms": known.value, "author": named.author, "url": named.url}
    return GateResult(
        gate=Gate.LICENCE, passed=not problems, detail="; ".join(problems) or f"{named.licence} ({known.value})", evidence=evidence
    )
