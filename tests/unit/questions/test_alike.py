"""Questions that would become the same task twice."""

from envfarm.core.candidate import Gate
from envfarm.core.question import Question
from task_builders.candidates.dedup import NEARLY_THE_SAME
from task_builders.questions.alike import SAME_EXAMPLE, AlikeQuestions
from task_builders.questions.understanding import Understood, understand
from tests.unit.questions.asked import ASKED, SORTED, TABLE, pre, question

LONG = (
    "I would like to have the lines of my file in the order of their first word, and nothing else of them may change at all. Whatever "
    "stands behind that word is to stay as it is, and no line may be lost or come twice. The file is long, so it should not take hours."
)


def numbered(body: str, number: int, title: str) -> tuple[Question, Understood]:
    asked = question(body, pre("sort x.txt\n"), title=title)
    asked = asked.model_copy(update={"id": number, "credit": asked.credit.model_copy(update={"url": f"https://example.org/q/{number}"})})
    found = understand(asked)
    assert isinstance(found, Understood)
    return asked, found


def test_the_same_example_in_other_words_is_the_same_task() -> None:
    seen = AlikeQuestions()
    assert seen.check(*numbered(ASKED, 1, "How to sort?")) is None
    other = f"<p>My data in <code>x.txt</code> is:</p>{pre(TABLE.replace(' ', '   '))}<p>Desired output:</p>{pre(SORTED)}"
    found = seen.check(*numbered(other, 2, "Put lines into order"))
    assert found is not None
    assert (found.gate, found.reason) == (Gate.DUPLICATE, SAME_EXAMPLE)
    assert found.evidence["first"] == "https://example.org/q/1"


def test_the_same_words_with_another_example_are_the_same_task() -> None:
    seen = AlikeQuestions()
    assert seen.check(*numbered(f"<p>{LONG}</p>{ASKED}", 1, "How to sort?")) is None
    turned = ASKED.replace("a 1", "c 1", 1)
    found = seen.check(*numbered(f"<p>{LONG}</p>{turned}", 2, "How to sort?"))
    assert found is not None
    assert found.reason == NEARLY_THE_SAME
    assert float(str(found.evidence["alike"])) > 0.8


def test_other_questions_are_not() -> None:
    seen = AlikeQuestions()
    assert seen.check(*numbered(ASKED, 1, "How to sort?")) is None
    assert seen.check(*numbered(ASKED.replace("a 1", "c 7"), 2, "In which way could one arrange these lines here?")) is None
