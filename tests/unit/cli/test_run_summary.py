"""What `envfarm run` says at its end."""

from envfarm.cli.run_summary import Ended, lines


def test_each_policy_has_its_mean_over_what_was_scored_and_the_count_of_the_rest() -> None:
    episodes = [
        Ended("gold", "scored", 1.0),
        Ended("nop", "scored", 0.0),
        Ended("gold", "scored", 0.5),
        Ended("gold", "invalid", None),
        Ended("slow", "censored", 1.0),
        Ended("slow", "", None),
    ]
    assert lines(episodes) == [
        "gold: mean reward 0.750 over 2 scored, 1 invalid",
        "nop: mean reward 0.000 over 1 scored",
        "slow: nothing scored, 1 censored, 1 not finished",
    ]
