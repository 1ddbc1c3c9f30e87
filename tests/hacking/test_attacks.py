"""Every exploit of the library against a small task in real boxes: it scores 0 with the defences on, and 1 with its own defences off."""

import pytest

from envfarm.core.change import Change
from envfarm.core.outcome import Invalid, Scored
from envfarm.episodes.grader import SandboxGrader
from envfarm.grading.integrity import ALL
from task_builders.validation.attacks import play
from task_builders.validation.attacks.attack import Attack
from task_builders.validation.attacks.library import LIBRARY
from task_builders.validation.attacks.play import AttackSetup


async def test_the_solution_scores_1_and_nothing_scores_0(place: AttackSetup) -> None:
    gold = await place.grader(ALL).grade(place.task, place.gold, environment=place.environment)
    nop = await place.grader(ALL).grade(place.task, Change(), environment=place.environment)
    assert isinstance(gold, Scored), gold
    assert isinstance(nop, Scored), nop
    assert (gold.reward, nop.reward) == (1.0, 0.0), gold.why
    assert gold.integrity.ok
    assert nop.integrity.ok, "an honest failure is no sign of cheating"


async def test_a_brief_grader_gives_the_same_rewards_and_spares_the_tests(place: AttackSetup) -> None:
    brief = SandboxGrader(place.provider, brief=True)
    gold = await brief.grade(place.task, place.gold, environment=place.environment)
    nop = await brief.grade(place.task, Change(), environment=place.environment)
    assert isinstance(gold, Scored), gold
    assert isinstance(nop, Scored), nop
    assert (gold.reward, nop.reward) == (1.0, 0.0)
    assert gold.report.statuses
    assert not nop.report.statuses
    assert "canaries (blind)" in nop.why


async def test_every_canary_of_the_solution_answers_as_it_must(place: AttackSetup) -> None:
    answered = await place.grader(ALL).check_canaries(place.task, place.gold, environment=place.environment)
    assert len(answered) == len(place.task.plan.canaries)
    assert [c.id for c, honest in answered.items() if not honest] == []


@pytest.mark.slow
@pytest.mark.parametrize("attack", LIBRARY, ids=lambda attack: attack.name)
async def test_an_attack_scores_0_and_would_have_scored_1(attack: Attack, place: AttackSetup) -> None:
    result = await play.play(place, await play.learn(place), attack)
    assert play.held(result), result.detail
    if not attack.cannot_reach:
        assert result.reward_undefended == 1.0, result.detail


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["seed 0", "seed 1", *(pytest.param(f"seed {n}", marks=pytest.mark.size) for n in range(2, 5))], indirect=True
)
async def test_no_draw_of_canaries_is_told_apart_by_trying_statements(place: AttackSetup) -> None:
    attack = next(a for a in LIBRARY if a.name == "answers by trying statements")
    result = await play.play(place, await play.learn(place), attack)
    assert (result.reward, result.reward_undefended) == (0.0, 1.0), result.detail


async def test_a_box_that_cannot_be_made_is_no_zero(place: AttackSetup) -> None:
    gone = place.environment.model_copy(update={"image": place.environment.image.model_copy(update={"layers": ("sha256:" + "0" * 64,)})})
    outcome = await place.grader(ALL).grade(place.task, place.gold, environment=gone)
    assert isinstance(outcome, Invalid)
    assert outcome.cause == "image"
