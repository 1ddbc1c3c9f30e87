"""Runs a proposal's programs in a box, and those of the post's answers that read the same files.

One program alone decides nothing. The task's program must print the output that the proposal shows, and so must another one that is
written in another way. Another input becomes a case if all programs that do not fail print the same for it, and the proposal does not say
otherwise.
"""

from collections.abc import Sequence
from itertools import islice

from envfarm.core.errors import BoxBroken
from envfarm.core.protocols import Box
from envfarm.core.question import Question
from envfarm.grading import outputs
from task_builders.questions import blocks, box_runs, scripts, trial
from task_builders.questions.blocks import Block
from task_builders.questions.box_runs import Candidate, CommandBox, Job, Run
from task_builders.questions.independence import another_way
from task_builders.questions.joining import ASKER, InputFile, Solution
from task_builders.questions.programs import Program
from task_builders.questions.tools import ALIASES, TOOLS, tool
from task_builders.questions.trial import Decided, Trial
from task_builders.questions.understanding import Understood
from task_builders.questions.variants import Variant
from task_builders.terminal import giveaways, sufficiency
from task_builders.writing.proposal import Proposal

PRINTS_OTHERS = "none of the writer's programs prints the output that it shows"
BREAKS_BOX = "a program of the writer breaks its box"
ALONE = "only one program prints the output that the writer shows"
TOO_FEW = "the programs agree on too few of the writer's other inputs"
BY_WRITER = "two programs of the writer agree"
BY_ANSWER = "a program of the writer and one of an answer agree"
OTHER_INPUT = "other input"


def reading(proposal: Proposal) -> Understood:
    """What the task is made of. The writer's programs have negative numbers in place of an answer's id."""
    names, texts = tuple(proposal.files), tuple(proposal.files.values())
    solutions = [Solution(-n, Program(each.language, each.text), names, texts) for n, each in enumerate(proposal.programs, 1)]
    started = [word for each in solutions for word in (*each.program.tools, *(command.name for command in each.program.commands))]
    known = {name: found for word in started if (found := tool(word)) is not None and (name := ALIASES.get(word, word)) in TOOLS}
    pandas = ["pandas"] if any("pandas" in scripts.tools_of(each) for each in solutions) else []
    tools = [name for name, found in known.items() if found.transforms]
    return Understood(
        inputs=solutions[0].files,
        wanted=(),
        state="standard output",
        solutions=tuple(solutions),
        tools=tuple([*pandas, *tools] or ["bash"]),
        packages=tuple(sorted({*proposal.packages, *(found.package for found in known.values())})),
    )


async def run(box: Box, proposal: Proposal, question: Question, found: Understood | None) -> tuple[Understood, Trial]:
    """The trial of a proposal in a box of its own. `found`: what the rules understood of the question. Raises what the box raises."""
    understood = reading(proposal)
    same_files = [s for s in (found.solutions if found else ()) if s.answer != ASKER and s.names == understood.solutions[0].names]
    candidates = [Candidate(each, "itself") for each in understood.solutions]
    candidates += [Candidate(each, display) for each in same_files for display in scripts.displays(each)]
    try:
        tried = await _tried(box_runs.Metered(box, trial.TRIAL_S), proposal, understood, candidates)
    except box_runs.TooLong:
        tried = Trial(runs=(), reproduced=False, fault=trial.TAKES_TOO_LONG)
    except BoxBroken:
        tried = Trial(runs=(), reproduced=False, fault=BREAKS_BOX)
    return understood, tried.model_copy(update={"witness": _witness(proposal, question)})


async def _tried(box: CommandBox, proposal: Proposal, understood: Understood, candidates: Sequence[Candidate]) -> Trial:
    jobs = [Job(trial.VISIBLE, at, each, understood.inputs, "") for at, each in enumerate(candidates)]
    first = await box_runs.runs(box, jobs)
    good = [(c, r) for c, r in zip(candidates, first, strict=True) if not r.failed and _same(proposal.output, r.output, proposal)]
    if not good or good[0][0].solution.answer > 0:
        return Trial(runs=tuple(first), reproduced=False, fault=PRINTS_OTHERS)
    (own, visible), *more = good
    another = [c for c, _ in more if another_way(own.solution.program.text, c.solution.program.text, own.solution.names)]
    others = list({c.solution.answer: c for c in reversed(another)}.values())
    echoes = [c for c, _ in more if c not in another][: trial.MAX_WAYS]
    begun = Trial(
        runs=tuple(first),
        reproduced=True,
        answer=own.solution.answer,
        program=own.text,
        others=tuple(each.text for each in others),
        inputs=tuple(map(tuple, understood.inputs)),
        output=visible.output,
        relation=proposal.relation,
    )
    if not others:
        return begun.model_copy(update={"fault": ALONE})
    if _tells(proposal, (own, *others)):
        return begun.model_copy(update={"fault": sufficiency.TOLD})
    tried = await _decide(box, proposal, (own, *others, *echoes), begun, echoes=len(echoes))
    return tried if tried.enough else tried.model_copy(update={"fault": TOO_FEW})


def _tells(proposal: Proposal, programs: Sequence[Candidate]) -> bool:
    """Whether the instruction has code that is written like one of the programs."""
    given = [*proposal.files.values(), proposal.output]
    code = [each for each in giveaways.pieces(proposal.instruction) if not any(each.strip() in text for text in given)]
    return any(giveaways.gives_away(each, [program.text for program in programs], tuple(proposal.files)) for each in code)


async def _decide(box: CommandBox, proposal: Proposal, witnesses: Sequence[Candidate], begun: Trial, *, echoes: int) -> Trial:
    """Decide what must be printed for the other inputs. The first witness is the task's own program; the last, `echoes`, are like it and
    can only contradict.
    """
    made = [
        Variant(f"{OTHER_INPUT} {n}", tuple(InputFile(name, each.files[name]) for name in proposal.files))
        for n, each in enumerate(proposal.held_out, 1)
    ]
    every = iter(await box_runs.runs(box, [Job(v.name, at, c, v.inputs, "") for v in made for at, c in enumerate(witnesses)]))
    runs, decided, undecided = list(begun.runs), dict[str, Decided](), []
    for variant, claimed in zip(made, proposal.held_out, strict=True):
        seen = list(islice(every, len(witnesses)))
        runs += seen
        claim_holds = claimed.output is None or _same(claimed.output, seen[0].output, proposal)
        if claim_holds and not _shows(proposal, variant) and trial.decision(seen, variant, begun, by_records=False, echoes=echoes):
            decided[variant.name] = Decided(
                inputs=tuple(map(tuple, variant.inputs)), output=seen[0].output, by=_by(seen[: len(seen) - echoes])
            )
        else:
            undecided.append(variant.name)
    return begun.model_copy(update={"runs": tuple(runs), "decided": decided, "undecided": tuple(undecided)})


def _by(seen: Sequence[Run]) -> str:
    return BY_ANSWER if any(run.answer > 0 and not run.failed for run in seen) else BY_WRITER


def _shows(proposal: Proposal, variant: Variant) -> bool:
    """Whether the instruction shows an input that is to be held out."""
    return all(each.text.strip() in proposal.instruction for each in variant.inputs)


def _same(expected: str, given: str, proposal: Proposal) -> bool:
    return bool(given.strip()) and outputs.same(expected.encode(), given.encode(), proposal.relation)


def _witness(proposal: Proposal, question: Question) -> str:
    """Who shows the visible output: the post, or the writer alone."""
    bodies = (question.body, *(each.body for each in question.answers))
    shown = (piece.text for body in bodies for piece in blocks.pieces(body) if isinstance(piece, Block))
    return "post" if any(_same(proposal.output, text, proposal) for text in shown) else "writer"
