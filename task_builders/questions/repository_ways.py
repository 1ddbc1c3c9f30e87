"""Questions about a repository that show none: the ways that an answer gives, and drawn repositories to try them in. Pure.

Nobody shows what is wanted. It is established by two ways of an answer, written as different commands, that do the same in several
repositories: a step of a longer way would not do what another step does. A way that changes a repository must also be what the answer
begins with, and not part of a sequence. Names that only the answer knows become files, which the program reads.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count, pairwise

from envfarm.core.question import Answer, Question
from task_builders.questions import blocks, git_commands, repositories
from task_builders.questions.blocks import Block, Prose
from task_builders.questions.git_commands import Role, Way, Word
from task_builders.questions.joining import InputFile, Misfit, Solution
from task_builders.questions.programs import Program
from task_builders.questions.repositories import Needs
from task_builders.questions.starting import State
from task_builders.questions.variants import Variant

ONE_WAY = "it is about a repository, and the answer gives only one way"
STEPS = re.compile(r"(?:^|[.:)]\s+|\n)(?:Then|Now|Next|Finally|After (?:that|this)|Afterwards|Lastly)\b")
"""At the beginning of a sentence: what follows continues what came before."""
SAME_OPTION = re.compile(
    r"`(--?[\w-]+)`[^.`]{0,40}\b(?:instead of|synonym|short|shorthand|alias|same as|equivalent)\b[^.`]{0,20}`(--?[\w-]+)`", re.IGNORECASE
)
"""A sentence in which an answer gives another name of an option."""
MAIN = ("main", "master")
"""Usual names of the branch that is checked out."""
REPOSITORIES = 9
COMMITS = 4
"""Minimum length of the checked-out branch's history, plus the number of commits that a way counts back."""
BACK = re.compile(r"[~^](\d*)$")
OF_COMMIT = re.compile(r"""'?(?:HEAD|"\$\(cat \.\./commit[-\d]*\))[~^]?\d*['"]?""")
"""How a program names a commit: ways that differ only in that are the same way."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One way to read the question."""

    state: State
    solutions: tuple[Solution, ...]
    variants: tuple[Variant, ...]

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The visible repository's script, and its parameters."""
        return self.solutions[0].files


@dataclass(slots=True)
class _Names:
    """What the words of all ways stand for."""

    said: frozenset[str]
    """Words of the question."""
    parameters: dict[tuple[str, Role], str] = field(default_factory=dict)
    """A word of an answer → the file that holds it."""
    known: dict[Role, dict[str, None]] = field(default_factory=dict)
    """Names that stay as they are, since the question contains them."""

    def of(self, word: Word) -> str:
        """The word as a word of the shell."""
        if word.role is Role.LITERAL:
            return word.before + shlex.quote(word.text)
        if not word.placeholder and word.role is not Role.COMMIT and word.text.casefold() in self.said:
            self.known.setdefault(word.role, {})[word.text] = None
            return word.before + shlex.quote(word.text) + word.behind
        key = (word.text, word.role)
        if key not in self.parameters:
            same = sum(role is word.role for _, role in self.parameters)
            self.parameters[key] = word.role.value + (f"-{same + 1}" if same else "")
        return f'{word.before}"$(cat ../{self.parameters[key]}){word.behind}"'


def read(question: Question) -> list[Reading] | Misfit:
    """The ways to read a question about a repository, the likeliest first, or why there is none; empty if no answer has any way."""
    ways = [(answer, way) for answer in question.answers for way in _ways(answer)]
    names = _Names(_said(question))
    programs = [(answer.id, way, _program(way, names)) for answer, way in ways]
    kinds = list(dict.fromkeys(way.prints for _, way, _ in programs))
    found = [
        reading
        for prints in kinds
        for current in _currents(names)
        for busy in (True, False)
        if (reading := _reading([each for each in programs if each[1].prints is prints], replace(_needs(names, ways, current), busy=busy)))
    ]
    return found if found or not programs else Misfit(ONE_WAY, programs[0][2].text.partition("\n")[2].strip()[:80])


def _ways(answer: Answer) -> Iterator[Way]:
    """Ways that print something; also ways that change something, if the answer begins with one and is not a sequence of steps."""
    pieces = blocks.pieces(answer.body)
    parsed = [git_commands.parse(piece.text) for piece in pieces if isinstance(piece, Block) and "git" in piece.text]
    goes_on = any(isinstance(piece, Prose) and isinstance(behind, Block) and STEPS.search(piece.text) for piece, behind in pairwise(pieces))
    begins = parsed[0] if parsed else None
    changes = begins is not None and not begins.prints and not goes_on
    found = [way for way in parsed if way is not None and (way.prints or changes)]
    names = [match.groups() for piece in pieces if isinstance(piece, Prose) for match in SAME_OPTION.finditer(piece.text)]
    yield from found
    for way in found:
        for one, other in (*names, *(pair[::-1] for pair in names)):
            if (renamed := _with_option(way, one, other)) != way:
                yield renamed


def _with_option(way: Way, old: str, new: str) -> Way:
    """The way with another name of an option."""
    changed = [tuple(replace(w, text=new) if (w.text, w.role) == (old, Role.LITERAL) else w for w in command) for command in way.commands]
    return replace(way, commands=tuple(changed))


def _said(question: Question) -> frozenset[str]:
    text = "\n".join([question.title, *(piece.text for piece in blocks.pieces(question.body))])
    return frozenset(word.strip(".") for word in re.split(r"[\s`'\",;:?!()]+", text.casefold()))


def _program(way: Way, names: _Names) -> Program:
    lines = (" ".join(names.of(word) for word in command) for command in way.commands)
    return Program("shell", "set -e\n" + "".join(f"{line}\n" for line in lines))


def _reading(programs: Sequence[tuple[int, Way, Program]], needs: Needs) -> Reading | None:
    distinct = dict[tuple[int, str], tuple[int, Program]]()
    for answer, _, program in programs:
        distinct.setdefault((answer, OF_COMMIT.sub("", program.text)), (answer, program))
    if len(distinct) < 2:  # noqa: PLR2004 - nothing to compare with
        return None
    drawn = [repositories.draw(needs, seed) for seed in range(REPOSITORIES)]
    files = tuple(each.name for each in drawn[0])
    texts = tuple(each.text for each in drawn[0])
    solutions = tuple(Solution(answer, program, files, texts) for answer, program in distinct.values())
    variants = tuple(Variant(f"repository {n}", inputs) for n, inputs in zip(count(1), drawn[1:], strict=False))
    return Reading("about a repository" if programs[0][1].prints else "repository", solutions, variants)


def _currents(names: _Names) -> list[str]:
    """Candidates for the checked-out branch: the main one if it is named, else any, or the named one."""
    named = list(names.known.get(Role.BRANCH, ()))
    main = next((each for each in named if each in MAIN), "")
    return list(dict.fromkeys((main, *(each for each in named[:1] if not main))))


def _needs(names: _Names, ways: Sequence[tuple[Answer, Way]], current: str) -> Needs:
    """What a repository must have for these ways."""
    known = {role: list(names.known.get(role, ())) for role in Role}
    tracked = {each.partition("/")[2] for each in known[Role.UPSTREAM]}
    taken = {current, *known[Role.NEW], *tracked}
    words = [word for _, way in ways for command in way.commands for word in command]
    back = [int(match[1] or 1) for word in words if not word.role and (match := BACK.search(word.text))]
    return Needs(
        current=current,
        branches=tuple(each for each in known[Role.BRANCH] if each not in taken),
        files=tuple(known[Role.FILE]),
        remote_branches=tuple(known[Role.UPSTREAM]),
        commits=max((COMMITS, *back)),
        parameters=tuple((file, role) for (_, role), file in names.parameters.items()),
    )
