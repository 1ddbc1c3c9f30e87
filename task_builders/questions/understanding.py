"""Finds what a task could be made of in a question (files in, a program, text out), or the first reason why not. Pure; no language model.

It reads the question's blocks by their roles, finds the accepted answer's programs, and joins the files that a program reads with the
blocks that show them. Whether the program prints what the asker wants is decided later, in a box.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from envfarm.core.question import Answer, Question
from task_builders.questions import blocks, joining, literals, programs, python_code, repository_ways, roles, scripts
from task_builders.questions.blocks import Block, Prose
from task_builders.questions.joining import InputFile, Misfit, Solution
from task_builders.questions.programs import Program
from task_builders.questions.repositories import SCRIPT
from task_builders.questions.repository_ways import Reading
from task_builders.questions.roles import Role, RoledBlock
from task_builders.questions.starting import State
from task_builders.questions.tools import tool
from task_builders.questions.unfit import unfit
from task_builders.questions.variants import Variant

ABBREVIATED = re.compile(r"^\s*(?:\.{3,}|…|etc\.?|\[\.\.\.\]|\(\.\.\.\)|<\.\.\.>)\s*$|\.{3}$", re.MULTILINE)
NEAR = 80
"""Maximum number of characters of prose between a program and its output: `which gives:`."""
QUOTED = re.compile(r"'[^'\n]{2,}'" + r'|"[^"\n]{2,}"')
MAX_READINGS = 6
MAX_PROGRAMS = 40
"""Maximum per text."""
MAX_PIECES = 20
"""Maximum number of pieces of Python that are also joined."""
ASKER = joining.ASKER
ELLIPSIS = re.compile(r"""["'](?:\.{3}|…)""")
"""A program that itself prints an ellipsis: then an ellipsis in the output is no abbreviation."""


@dataclass(frozen=True, slots=True)
class Understood:
    """What a task could be made of."""

    inputs: tuple[InputFile, ...]
    wanted: tuple[tuple[Literal["asker", "answer"], str], ...]
    """Outputs that are shown, and by whom: the asker's first, the nearest to the question's end before others; then the accepted answer's
    own. Empty if two answers must agree on what is wanted.
    """
    state: State
    """What is compared."""
    solutions: tuple[Solution, ...]
    """The accepted answer's programs come first."""
    tools: tuple[str, ...]
    packages: tuple[str, ...]
    """Debian packages that the programs need."""
    words: str = ""
    """The asker's title and prose."""
    plain_words: str = ""
    """The same without data."""
    variants: tuple[Variant, ...] = ()
    """Other inputs, if they are drawn instead of made from the visible ones: repositories."""
    otherwise: "tuple[Understood, ...]" = ()
    """Other ways to read the question (other blocks as input, spaces as tabs), tried if this one does not give what is wanted."""

    @property
    def output(self) -> str:
        """The file that is compared, if a program leaves one; else empty."""
        return self.solutions[0].program.leaves if self.state == "files" else ""

    def led_by(self, solution: Solution) -> "Understood":
        """The same with another of its solutions first; the files get the names that it reads."""
        others = tuple(each for each in self.solutions if each != solution)
        return replace(self, inputs=solution.files, solutions=(solution, *others), tools=scripts.tools_of(solution))

    def of_ways(self, ways: Sequence[Solution]) -> "Understood":
        """The same with only these ways, and without files that none of them reads."""
        read = [each for each in self.inputs if each.name == SCRIPT or any(f"../{each.name})" in way.program.text for way in ways)]
        names, texts = tuple(each.name for each in read), tuple(each.text for each in read)
        return replace(self, inputs=tuple(read), solutions=tuple(replace(way, names=names, texts=texts) for way in ways))

    @property
    def desired(self) -> str:
        """The first of the outputs shown."""
        return self.wanted[0][1] if self.wanted else ""

    @property
    def witness(self) -> str:
        """Who shows it."""
        return self.wanted[0][0] if self.wanted else "two answers"

    @property
    def independent(self) -> int:
        """The number of answers that have a program for it."""
        return len({s.answer for s in self.solutions} - {ASKER})


def understand(question: Question) -> Understood | Misfit:
    """What a question's task could be made of, or the first reason against it."""
    shown = roles.with_roles(blocks.pieces(question.body))
    found = {answer.id: _programs(answer) for answer in question.answers}
    inputs = [each for each in shown if each.role is Role.INPUT]
    given = literals.set_by(each.block.text for each in shown if each.role not in (Role.OUTPUT, Role.ACTUAL, Role.ERROR))
    found[ASKER] = _attempts(question, shown)
    outcomes = {a: [(program, joining.solutions(a, program, inputs, given)) for program in found[a]] for a in found}
    if not inputs:
        _lend_data(outcomes, given)
    every = [joined for a in found for _, joined in outcomes[a]]
    groups = _by_data([each for joined in every if isinstance(joined, list) for each in joined], question.answers[0].id)
    if not groups and (repositories := _about_repositories(question)) is not None:
        return repositories
    if not groups:
        own = found[question.answers[0].id]
        unusable = _unusable(question, shown, own) or _without_input(shown, own)
        return unusable or next(joined for joined in every if isinstance(joined, Misfit))
    readings = [_whole(question, shown, each) for each in groups[:MAX_READINGS]]
    whole = [each for each in readings if isinstance(each, Understood)]
    if not whole:
        return next(each for each in readings if isinstance(each, Misfit))
    packages = tuple(sorted({package for each in whole for package in each.packages}))
    return replace(whole[0], packages=packages, otherwise=tuple(whole[1:]))


def _about_repositories(question: Question) -> Understood | Misfit | None:
    """The reading of a question that shows no repository but has an answer of git commands; None for other questions."""
    found = repository_ways.read(question)
    if isinstance(found, Misfit):
        return found
    if not found:
        return None
    whole = [_of_repository(question, each) for each in found]
    return replace(whole[0], otherwise=tuple(whole[1:]))


def _of_repository(question: Question, reading: Reading) -> Understood:
    return Understood(
        inputs=reading.inputs,
        wanted=(),
        state=reading.state,
        solutions=reading.solutions,
        tools=("git",),
        packages=("git",),
        words=_words(question),
        plain_words=_plain_words(question),
        variants=reading.variants,
    )


def _words(question: Question) -> str:
    return "\n".join([question.title, *(p.text for p in blocks.pieces(question.body) if isinstance(p, Prose))])


def _plain_words(question: Question) -> str:
    return "\n".join([question.title, *(roles.without_data(p) for p in blocks.pieces(question.body) if isinstance(p, Prose))])


def _attempts(question: Question, shown: Sequence[RoledBlock]) -> list[Program]:
    """The asker's own programs. One that works (the asker wants a better one) is only a witness, and must not be shown to the agent."""
    tried = [each.block for each in shown if each.role is Role.ATTEMPT]
    inline = [program for piece in blocks.pieces(question.body) if isinstance(piece, Prose) for program in _inline(piece)]
    return [*(joining.here(program) for block in tried for program in programs.parse(block.text, block.language)), *inline][:MAX_PROGRAMS]


def _lend_data(outcomes: dict[int, list[tuple[Program, joining.Joined]]], given: Mapping[str, Any]) -> None:
    """Try single files of data that answers set as the input of programs that have none: for a question that shows no input."""
    answered = [joined for a in outcomes if a != ASKER for _, joined in outcomes[a] if isinstance(joined, list)]
    texts = dict.fromkeys(each.texts[0] for joined in answered for each in joined if len(each.texts) == 1)
    shown = [RoledBlock(Block(text), Role.INPUT, "", "an answer sets it") for text in texts][:MAX_READINGS]
    for a, own in outcomes.items():
        lacking = [program for program, joined in own if isinstance(joined, Misfit)]
        own += [(program, joining.solutions(a, program, [block], given)) for program in lacking for block in shown]


def _by_data(solutions: Iterable[Solution], accepted: int) -> list[list[Solution]]:
    """Solutions grouped by the data that they work on: only those of one group can be compared. Groups without an answer are dropped; those
    with the accepted answer come first, and among these, those that most answers share.
    """
    groups: dict[tuple[bool, tuple[str, ...]], list[Solution]] = {}
    for each in solutions:
        texts = each.texts if each.in_order else tuple(sorted(each.texts))
        group = groups.setdefault((each.in_order, texts), [])
        group.append(each.ordered(group[0].texts) if group else each)
    answers = [({solution.answer for solution in group} - {ASKER}, group) for group in groups.values()]
    return [group for whose, group in sorted(answers, key=lambda pair: (accepted not in pair[0], -len(pair[0]))) if whose]


def _whole(question: Question, shown: Sequence[RoledBlock], solutions: Sequence[Solution]) -> Understood | Misfit:
    """One way to read the question, or what it lacks."""
    first = solutions[0]
    wanted = _wanted(shown, solutions, question.answers[0].id)
    wanted = tuple(pair for pair in wanted if pair[1] not in first.texts)
    alone = len({s.answer for s in solutions} - {ASKER}) == 1
    if not wanted and alone:
        return Misfit("no desired output is shown")
    if not any(ELLIPSIS.search(solution.program.text) for solution in solutions):
        wanted = tuple(pair for pair in wanted if not ABBREVIATED.search(pair[1]))
        if (not wanted and alone) or any(ABBREVIATED.search(text) for text in first.texts):
            return Misfit("input or output is abbreviated")
    return Understood(
        inputs=first.files,
        wanted=wanted,
        state=_state(first),
        solutions=tuple(solutions),
        tools=scripts.tools_of(first),
        words=_words(question),
        plain_words=_plain_words(question),
        packages=tuple(sorted({known.package for s in solutions for n in _started(s.program) if (known := tool(n))})),
    )


def _wanted(
    shown: Sequence[RoledBlock], solutions: Sequence[Solution], accepted: int
) -> tuple[tuple[Literal["asker", "answer"], str], ...]:
    """The outputs that the asker wants, then those that the accepted answer shows."""
    asked = [programs.unmarked(each.block.text) for each in reversed(shown) if each.role is Role.OUTPUT]
    printed = [s.program.printed for s in solutions if s.answer == accepted and s.program.printed]
    found: dict[str, Literal["asker", "answer"]] = dict.fromkeys(asked, "asker")
    found |= {text: "answer" for text in printed if text not in found}
    return tuple((who, text) for text, who in found.items())


def _started(program: Program) -> tuple[str, ...]:
    """Every command that a program starts, whatever the program is about."""
    return (*program.tools, *(command.name for command in program.commands))


def _programs(answer: Answer) -> list[Program]:
    """An answer's programs; pieces of Python also joined with those before them, pieces of shell with the functions that they call. A block
    of data right after a program is its output.
    """
    found: list[Program] = []
    between = 0
    for piece in blocks.pieces(answer.body):
        if isinstance(piece, Prose):
            between += len(piece.text)
            continue
        if here := programs.parse(piece.text, piece.language):
            found += [joining.here(joining.without_stand_in(each)) for each in here]
        elif found and not found[-1].printed and between <= NEAR:
            found[-1] = replace(found[-1], printed=programs.unmarked(piece.text))
        between = 0
    if not found:
        found = [program for piece in blocks.pieces(answer.body) if isinstance(piece, Prose) for program in _inline(piece)]
    pieces = [each for each in found if each.kind == "python" and python_code.tree_of(each.text)]
    return programs.with_functions(found[:MAX_PROGRAMS]) + [
        programs.together(pieces[: n + 1]) for n in range(1, min(len(pieces), MAX_PIECES))
    ]


def _inline(prose: Prose) -> list[Program]:
    """Whole commands inside a sentence: a text tool with its quoted program."""
    parsed = [joining.here(joining.without_stand_in(program)) for code in prose.code for program in programs.parse(f"{code}\n")]
    return [each for each in parsed if each.kind == "shell" and QUOTED.search(each.text) and each.tools != ("bash",)]


def _unusable(question: Question, shown: Sequence[RoledBlock], found: Sequence[Program]) -> Misfit | None:
    """What is missing before programs can be joined with blocks."""
    code = next((p.text for p in blocks.pieces(question.answers[0].body) if isinstance(p, Block)), "")
    foreign = unfit(code) if not found else ""
    against = found[0].unfit if found and all(program.unfit for program in found) else foreign
    faults = (
        (not shown, "the question has no block of code", ""),
        (not code, "the accepted answer has no code", ""),
        (bool(against), f"the answer's program: {against}", code[:200]),
        (not found, "the answer's code is not a program in a known language", code[:80]),
    )
    return next((Misfit(reason, detail) for holds, reason, detail in faults if holds), None)


def _without_input(shown: Sequence[RoledBlock], found: Sequence[Program]) -> Misfit | None:
    """Why nothing can be read, if the question shows no input."""
    has = {each.role for each in shown}
    if Role.INPUT in has:
        return None
    if all("git" in program.tools for program in found):
        return Misfit("it is about a repository's state, but shows none")
    return Misfit("no input is shown", "though a desired output is" if Role.OUTPUT in has else "and no desired output")


def _state(solution: Solution) -> State:
    return "files" if _in_place(solution.program) else "standard output"


def _in_place(program: Program) -> bool:
    """Whether it changes its files and prints nothing: `sed -i`, `perl -i`, `> file` at the end."""
    found = program.commands
    edits = any(c.name == "sponge" for c in found) or any(
        c.name in ("sed", "perl") and any(re.match(r"-[a-zA-Z0]*i", w) for w in c.words[1:]) for c in found
    )
    return edits or bool(found and found[-1].writes)
