"""Questions about a repository that show none: which ways of an answer are compared, and in which repositories."""

from task_builders.questions import repository_ways
from task_builders.questions.joining import Misfit
from task_builders.questions.understanding import Understood, understand
from tests.unit.questions.asked import pre, question

ASKED = "<p>How do I rename the branch that I am on? It is called wrongname.</p>"


def programs(*answer: str, body: str = ASKED) -> list[str]:
    found = repository_ways.read(question(body, "".join(answer), tags=("git",)))
    return [] if isinstance(found, Misfit) or not found else [each.program.text.removeprefix("set -e\n") for each in found[0].solutions]


def test_two_ways_are_compared_and_names_that_the_answer_alone_knows_are_read_from_files() -> None:
    found = programs(pre("git branch -m rightname"), "<p>Or:</p>", pre("git branch -m wrongname rightname"))
    assert found == ['git branch -m "$(cat ../new-branch)"\n', 'git branch -m wrongname "$(cat ../new-branch)"\n']


def test_the_same_command_with_another_name_of_a_commit_is_no_other_way() -> None:
    assert programs(pre("git reset --hard HEAD~1"), pre("git reset --hard <sha1>")) == []


def test_two_answers_may_give_the_same_command() -> None:
    asked = question(ASKED, pre("git branch -m <name>"), pre("git branch -m <name>"), tags=("git",))
    found = repository_ways.read(asked)
    assert not isinstance(found, Misfit)
    assert [each.answer for each in found[0].solutions] == [10, 11]


def test_what_changes_something_is_what_the_answer_begins_with_and_no_step() -> None:
    assert programs(pre("git push origin x"), pre("git switch -c x"), pre("git checkout -b x")) == []
    assert (
        programs(
            pre("git reset --soft HEAD^"), "<p>Then take it out:</p>", pre("git reset HEAD <file>"), pre("git restore --staged <file>")
        )
        == []
    )
    assert len(programs(pre("git fetch origin"), pre("git rev-parse --abbrev-ref HEAD"), pre("git branch --show-current"))) == 2


def test_another_name_of_an_option_is_another_way() -> None:
    found = programs(pre("git diff --cached"), "<p><code>--staged</code> is a synonym for <code>--cached</code>.</p>")
    assert found == ["git diff --cached\n", "git diff --staged\n"]


def test_a_question_about_a_repository_has_repositories_as_its_variants() -> None:
    found = understand(question(ASKED, pre("git switch -c x") + pre("git checkout -b x"), tags=("git",)))
    assert isinstance(found, Understood)
    assert (found.state, found.tools, found.packages) == ("repository", ("git",), ("git",))
    assert [each.name for each in found.inputs] == ["repository.sh", "new-branch"]
    assert len({each.inputs for each in found.variants} | {found.inputs}) == len(found.variants) + 1
