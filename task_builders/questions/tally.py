"""Tables of how many questions can become tasks, and why the others cannot. Pure."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from envfarm.core.errors import TaskError, boundary
from envfarm.core.question import Question
from task_builders.questions import blocks, roles
from task_builders.questions.joining import Misfit
from task_builders.questions.roles import Role
from task_builders.questions.understanding import Understood, understand


@dataclass(slots=True)
class Tally:
    """Counts over questions."""

    questions: int = 0
    with_blocks: int = 0
    with_input: int = 0
    with_output: int = 0
    usable: int = 0
    """Questions that show both an input and a desired output."""
    understood: int = 0
    two_answers: int = 0
    """Understood, with programs of two answers or more."""
    tools: Counter[str] = field(default_factory=Counter)
    """Tools of the accepted program."""
    reasons: Counter[str] = field(default_factory=Counter)
    whole: list[tuple[Question, Understood]] = field(default_factory=list)
    """The questions that were understood."""

    def rows(self) -> list[tuple[str, int]]:
        """The counts, from all questions down to those that two answers solve."""
        return [
            ("questions with an accepted answer", self.questions),
            ("with a block of code", self.with_blocks),
            ("that show an input", self.with_input),
            ("that show a desired output", self.with_output),
            ("that show both", self.usable),
            ("understood", self.understood),
            ("understood, by two answers or more", self.two_answers),
            *((f"understood, by {tool}", count) for tool, count in self.tools.most_common()),
        ]


def tally(questions: Iterable[Question]) -> Tally:
    """Understand every question, and count."""
    found = Tally()
    for question in questions:
        found.questions += 1
        try:
            with boundary(TaskError, "screening"):
                _count(question, found)
        except TaskError as e:
            found.reasons[f"it failed: {e}"] += 1
    return found


def _count(question: Question, found: Tally) -> None:
    has = {each.role for each in roles.with_roles(blocks.pieces(question.body))}
    found.with_blocks += bool(has)
    found.with_input += Role.INPUT in has
    found.with_output += Role.OUTPUT in has
    found.usable += {Role.INPUT, Role.OUTPUT} <= has
    outcome = understand(question)
    if isinstance(outcome, Misfit):
        found.reasons[outcome.reason] += 1
        return
    found.understood += 1
    found.whole.append((question, outcome))
    found.two_answers += outcome.independent > 1
    found.tools.update(outcome.tools[:1])
