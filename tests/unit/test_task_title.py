"""How a task is called in a list."""

import pytest

from envfarm.core.task import TITLE_CHARACTERS
from envfarm.testing import adder_task


@pytest.mark.parametrize(
    ("instruction", "title"),
    [
        ("The project is in /app.\n\n# Sums  are `wrong`\n\nThey are.\n", "Sums are `wrong`"),
        ("\n```\n# a comment\n```\n\n# Sums\n", "Sums"),
        ("## Task\n\nSum up.\n", "Task"),
        ("Sum up\nthe numbers.\n\nQuickly.", "Sum up the numbers."),
        ("```\n1 + 1\n```\n", ""),
    ],
)
def test_a_title_is_the_main_heading_or_the_first_words(instruction: str, title: str) -> None:
    assert adder_task.make().model_copy(update={"instruction": instruction}).title == title


def test_a_title_is_bounded() -> None:
    title = adder_task.make().model_copy(update={"instruction": "word " * 1000}).title
    assert TITLE_CHARACTERS - 5 <= len(title) <= TITLE_CHARACTERS
    assert title.endswith("word …")
