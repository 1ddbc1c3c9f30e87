"""What a task writer proposes: an untrusted text, parsed into a task's parts of bounded sizes. Pure."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from envfarm.core.frozen import Frozen
from envfarm.core.plan import Relation
from task_builders.questions.programs import MAX_CHARACTERS
from task_builders.questions.tools import TOOLS
from task_builders.questions.unfit import unfit
from task_builders.terminal.derived_programs import INNER
from task_builders.terminal.giveaways import TO_WRITE
from task_builders.terminal.make import LINK, PROGRAM

PACKAGES = frozenset(known.package for known in TOOLS.values())
"""Debian packages that a proposal may ask for: those that the rules know."""
MAX_TEXT = 8000
"""Characters of a file or an output."""
MAX_ANSWER = 200_000
"""Characters of an answer that is read at all."""
MAX_TOLD = 1000
"""Characters of what is told about a proposal that is not valid."""
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
FENCE = "```"


class NotValid(Exception):  # noqa: N818 - a result for the writer, not an error of the farm
    """An answer is neither a proposal nor a refusal; the text says why."""


def _plain(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("it has control characters")
    if TO_WRITE in text:
        raise ValueError(f"it has the heading {TO_WRITE!r}, which is added later")
    return text


def _instructive(text: str) -> str:
    if text.count(FENCE) % 2:
        raise ValueError("a block of code does not end")
    return LINK.sub("", text).strip()


def _free(name: str) -> str:
    if name in (PROGRAM, INNER):
        raise ValueError(f"{name!r} is the name of a program")
    return name


def _known(package: str) -> str:
    if package not in PACKAGES:
        raise ValueError(f"only these packages are known: {', '.join(sorted(PACKAGES))}")
    return package


FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"), AfterValidator(_free)]
Text = Annotated[str, Field(min_length=1, max_length=MAX_TEXT), AfterValidator(_plain)]
Files = Annotated[dict[FileName, Text], Field(min_length=1, max_length=4)]


class WrittenProgram(Frozen):
    """A program that reads the input files and prints the output."""

    language: Literal["shell", "python"]
    text: Annotated[str, Field(min_length=1, max_length=MAX_CHARACTERS)]

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if reason := unfit(self.text, self.language):
            raise ValueError(f"it is not allowed: {reason}")
        return self


class HeldOut(Frozen):
    """Another input."""

    files: Files
    output: Text | None = None
    """What must be printed for it. Believed only if the programs agree."""


class Proposal(Frozen):
    """A task as its writer wants it."""

    title: Annotated[str, Field(min_length=5, max_length=150, pattern=r"^[^\r\n]+$"), AfterValidator(_plain)]
    instruction: Annotated[str, Field(min_length=40, max_length=6000), AfterValidator(_plain), AfterValidator(_instructive)]
    """What is wanted, without the files, the example and what is to be written where: these are added."""
    packages: Annotated[tuple[Annotated[str, AfterValidator(_known)], ...], Field(max_length=8)] = ()
    """Debian packages that the programs need."""
    files: Files
    """The visible input."""
    output: Text
    """What must be printed for it."""
    relation: Relation = "lines"
    """How outputs are compared."""
    programs: Annotated[tuple[WrittenProgram, ...], Field(min_length=1, max_length=3)]
    """Solutions, each written in another way; the first that prints the output becomes the task's."""
    held_out: Annotated[tuple[HeldOut, ...], Field(min_length=3, max_length=12)]

    @model_validator(mode="after")
    def _same_names(self) -> Self:
        if any(each.files.keys() != self.files.keys() for each in self.held_out):
            raise ValueError("all inputs must have the same file names")
        return self


class Refusal(Frozen):
    """The writer's answer if a question makes no task."""

    refusal: Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_plain)]


def parse(answer: str) -> Proposal | Refusal:
    """The JSON object in a writer's answer. Raises `NotValid`."""
    if len(answer) > MAX_ANSWER:
        raise NotValid(f"it has more than {MAX_ANSWER} characters")
    said = answer.rpartition("</think>")[2]
    said = said[said.find("{") : said.rfind("}") + 1]
    try:
        return Refusal.model_validate_json(said, strict=True)
    except ValidationError:
        pass
    try:
        return Proposal.model_validate_json(said, strict=True)
    except ValidationError as e:
        faults = (f"{'.'.join(map(str, each['loc'])) or 'the answer'}: {each['msg']}" for each in e.errors(include_url=False))
        raise NotValid(CONTROL.sub("", "; ".join(faults))[:MAX_TOLD]) from e
