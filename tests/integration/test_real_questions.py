"""The rules on real posts, where this machine has them. They say what the rules come to as a whole, and nothing of any one post."""

from pathlib import Path

import pytest

from envfarm.core.question import Question
from task_builders.questions.joining import Misfit
from task_builders.questions.tally import tally
from task_builders.questions.understanding import Understood, understand
from task_builders.sources import stackexchange_dump
from task_builders.sources.clone import silent
from task_builders.sources.source_models import StackexchangeDumpSource

POSTS = Path(__file__).parents[3] / "shared" / "data" / "stackexchange" / "Posts.xml"


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> list[Question]:
    if not POSTS.is_file():
        pytest.skip(f"needs real posts in {POSTS}: rows of the public dump of Stack Overflow")
    source = StackexchangeDumpSource(path=str(POSTS))
    outcomes = list(stackexchange_dump.read(source, tmp_path_factory.mktemp("indexes"), silent))
    return [each for each in outcomes if isinstance(each, Question)]


def test_every_question_is_understood_or_has_one_of_few_reasons(questions: list[Question]) -> None:
    found = tally(questions)
    assert found.understood + sum(found.reasons.values()) == found.questions > 300
    assert len(found.reasons) <= 25
    assert found.understood >= 40
    assert len(found.tools) >= 3


def test_what_is_understood_is_whole(questions: list[Question]) -> None:
    whole = [found for q in questions if isinstance(found := understand(q), Understood)]
    for found in whole:
        assert found.desired.strip() or found.independent > 1 or found.variants
        assert all(each.text.strip() for each in found.inputs)
        assert len({each.name for each in found.inputs}) == len(found.inputs)
        assert not any(s.program.unfit for s in found.solutions)


def test_whatever_is_cut_off_of_a_post_breaks_no_rule(questions: list[Question]) -> None:
    for question in questions[::6]:
        for share in (3, 2):
            cut = question.model_copy(update={"body": question.body[: len(question.body) // share]})
            given = tuple(a.model_copy(update={"body": a.body[: len(a.body) // share]}) for a in question.answers)
            found = understand(cut.model_copy(update={"answers": given}))
            assert isinstance(found, Understood | Misfit)
