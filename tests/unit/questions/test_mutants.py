"""Programs with one change."""

from task_builders.questions.mutants import MOST, mutants
from task_builders.questions.programs import Program


def texts(kind: str, text: str) -> set[str]:
    return {each.text for each in mutants(Program(kind, text)).values()}


def test_numbers_comparisons_and_words_change_one_at_a_time() -> None:
    assert texts("shell", "awk '$2 > 10' x | sort") == {
        "awk '$3 > 10' x | sort",
        "awk '$1 > 10' x | sort",
        "awk '$2 >= 10' x | sort",
        "awk '$2 > 11' x | sort",
        "awk '$2 > 9' x | sort",
    }
    assert texts("python", "df[(df.a == 'x') & m].max()") == {
        "df[(df.a != 'x') & m].max()",
        "df[(df.a == 'x') | m].max()",
        "df[(df.a == 'x') & m].min()",
    }


def test_comments_names_and_arrows_stay() -> None:
    assert texts("python", "# 3 > 2\nx1 = f(y)  # 4\n") == set()
    assert texts("shell", "cat < in > out 2>&1 && x >> y") <= {"cat <= in > out 2>&1 && x >> y", "cat < in >= out 2>&1 && x >> y"}


def test_they_are_bounded() -> None:
    assert len(mutants(Program("python", "x = [" + ", ".join(map(str, range(5, 100))) + "]"))) == MOST
