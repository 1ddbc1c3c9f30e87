"""Which programs were written without each other."""

import pytest

from task_builders.questions.independence import another_way, are_independent
from task_builders.questions.joining import Solution
from task_builders.questions.programs import Program


@pytest.mark.parametrize(
    ("one", "other", "differs"),
    [
        ("awk 'NR < 3' file", "head -n 2 file", True),
        ("sorted(i)[1] for i in zip(*rows)", "sorted(set(i))[1] for i in zip(*rows)", False),
        ("a = f(x)\nprint(a)", "a = f(x)\nprint(a)\nb = g(a)\nprint(b)", False),
        ("top = max(n)\nprint([top] * n.count(top))", "for i in n:\n    if i > best:\n        found = [i]", True),
    ],
)
def test_a_program_with_some_words_changed_is_no_other_way(one: str, other: str, *, differs: bool) -> None:
    assert another_way(one, other) is differs


@pytest.mark.parametrize(
    ("one", "other", "independent"),
    [
        ("jq length x", "cat x | jq '. | length'", False),
        ("df[df['n'].isin(m['k'])]", "df[df['n'].isin(m['k'])]", False),
        (
            "df['n'] = df['n'].str.split(',').apply(lambda x: ','.join([i for i in x if i not in m['k'].values]))",
            (
                "gone = m['k'].values.tolist()\ndef kept(row):\n    left = [v for v in row['n'].split(',') if v not in gone]\n"
                "    return ','.join(left)\ndf['n'] = df.apply(kept, axis=1)"
            ),
            True,
        ),
        ("jq -s '.[0] * .[1] | {n: .n}' x", "jq '{n} * (input | {n})' x", True),
    ],
)
def test_a_copy_is_no_independent_program(one: str, other: str, *, independent: bool) -> None:
    texts = ("n,k\n",)
    made = [Solution(at, Program("python", text), ("x",), texts) for at, text in enumerate((one, other))]
    assert are_independent(*made) is independent
