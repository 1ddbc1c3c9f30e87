"""Takes a question that the rules reject to a task that its writer proposes, or to the gate at which the proposal failed."""

from collections.abc import Callable
from functools import partial
from typing import Any

from envfarm.core.candidate import Gate
from envfarm.core.protocols import Box
from envfarm.core.question import Question
from envfarm.core.recipe import Recipe
from envfarm.core.task import Task
from envfarm.core.validation import Cost, GateResult
from task_builders.pipeline import Minted, Refused
from task_builders.questions.trial import Trial
from task_builders.questions.understanding import Understood
from task_builders.terminal import make
from task_builders.terminal.minting import QuestionMint
from task_builders.writing import prompt, trial
from task_builders.writing.proposal import Proposal
from task_builders.writing.writer import Spent, TaskWriter, Written

NOT_VALID = "the writer's proposal is not valid"
KEPT_CHARACTERS = 10_000
"""Of a proposal that is rejected."""
Mint = Callable[..., QuestionMint]


async def mint(question: Question, refused: Refused, found: Understood | None, writer: TaskWriter, of: Mint) -> Minted | Refused:
    """The writer's task, or the rejection of its proposal. If it proposes none, the rules' rejection stands. Every result has what asking
    took. Raises infrastructure errors.

    Args:
        question: the question.
        refused: the rules' rejection.
        found: what the rules understood of the question.
        writer: who is asked.
        of: makes a mint of an understanding; keywords are its other fields.
    """
    why = refused.rejection.reason
    written = await writer.propose(question, why)
    said: dict[str, Any] = {**written.spent.model_dump(), "rules": why}
    if written.proposal is None:
        return _without_proposal(refused, written, said)
    proposal = written.proposal

    async def try_out(box: Box, _: Understood) -> tuple[Understood, Trial]:
        return await trial.run(box, proposal, question, found)

    made = of(trial.reading(proposal), try_out=try_out, assemble=partial(assemble, proposal, written.spent.model))
    result = await made.run()
    if isinstance(result, Refused):
        return _told(result, written.spent, said | {"proposal": proposal.model_dump_json()[:KEPT_CHARACTERS]})
    gates = tuple(_with_writer(gate, said) if gate.gate is Gate.SETUP else gate for gate in result.report.gates)
    report = result.report.model_copy(update={"gates": gates, "cost": _with_tokens(result.report.cost, written.spent)})
    return result.model_copy(update={"report": report})


def assemble(proposal: Proposal, model: str, question: Question, understood: Understood, tried: Trial, built_of: Recipe, name: str) -> Task:
    """The task in the writer's words, with the authors of all that the writer read."""
    asked = "\n\n".join([proposal.instruction, *map(make.of_file, understood.inputs)])
    task = make.task(question, understood, tried, built_of, name, text=make.whole(proposal.title, asked, understood, tried))
    changes = f"The language model {model} wrote the instruction, the input files and the program, from the question and its answers."
    return task.model_copy(update={"attribution": make.credited(question, prompt.shown(question), changes)})


def _without_proposal(refused: Refused, written: Written, said: dict[str, Any]) -> Refused:
    """The rules' rejection if the writer makes no task of the question either; another one if its answer is not valid."""
    if not written.fault:
        return _told(refused, written.spent, said | {"refusal": written.refusal})
    why = {"gate": Gate.CANDIDATE, "reason": NOT_VALID, "detail": written.fault[:500]}
    return _told(refused.model_copy(update={"rejection": refused.rejection.model_copy(update=why)}), written.spent, said)


def _told(refused: Refused, spent: Spent, said: dict[str, Any]) -> Refused:
    """The rejection with what the writer did as evidence, and its tokens among the costs."""
    rejection = refused.rejection.model_copy(update={"evidence": {**refused.rejection.evidence, "writer": said}})
    return refused.model_copy(update={"rejection": rejection, "cost": _with_tokens(refused.cost, spent)})


def _with_writer(gate: GateResult, said: dict[str, Any]) -> GateResult:
    return gate.model_copy(update={"evidence": {**gate.evidence, "writer": said}})


def _with_tokens(cost: Cost, spent: Spent) -> Cost:
    tokens = {"prompt_tokens": spent.prompt_tokens, "completion_tokens": spent.completion_tokens}
    return cost.model_copy(update={"writer_model": spent.model, **tokens})
