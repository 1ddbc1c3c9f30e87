"""Names for canaries."""

from dataclasses import replace

from envfarm.grading import words
from envfarm.testing.factories import make_plan


def test_a_drawn_name_has_no_word_by_which_the_command_may_leave_it_out() -> None:
    plan = make_plan()
    selective = replace(
        plan, commands=(replace(plan.commands[0], argv=(*plan.commands[0].argv, "-k", "not Large and not rest", "--deselect=slow")),)
    )
    chance = words.generator("secret")
    drawn = [words.draw(selective, chance) for _ in range(2000)]
    assert not any(word in name for name in drawn for word in ("large", "rest", "slow"))
    every = replace(plan, commands=(replace(plan.commands[0], argv=("run", words.PLAIN)),))
    assert words.draw(every, chance), "where options name all words, any will do"
    assert any("large" in words.draw(plan, chance) for _ in range(2000)), "else this would show nothing"
