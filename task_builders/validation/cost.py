"""What a task cost to make and check, from what builders and gradings say. Pure."""

from collections.abc import Sequence

from envfarm.core.image import BuildFacts
from envfarm.core.validation import Cost
from task_builders.validation.scoring import Score


def of_builds(facts: Sequence[BuildFacts]) -> Cost:
    """The builder's part: the seconds of every build, the bytes of the last one."""
    last = facts[-1]
    return Cost(
        build_s=round(sum(f.layer_s for f in facts if not f.layer_reused), 2),
        checkout_s=round(sum(f.checkout_s for f in facts if not f.checkout_reused), 2),
        layer_bytes=last.layer_bytes,
        checkout_bytes=last.checkout_bytes,
        layer_reused=all(f.layer_reused for f in facts),
    )


def with_checks(built: Cost, *, validate_s: float, gold: Sequence[Score]) -> Cost:
    """The builder's part with the seconds that validation took, and those of one grading of gold (the median)."""
    seconds = sorted(score.seconds for score in gold)
    verify_s = seconds[len(seconds) // 2] if seconds else 0.0
    return built.model_copy(update={"validate_s": round(validate_s, 2), "verify_s": round(verify_s, 2)})


def seconds(cost: Cost) -> float:
    """Everything together."""
    return cost.build_s + cost.checkout_s + cost.validate_s


def own_mib(cost: Cost) -> float:
    """What the task alone takes up on disk; its layer is shared."""
    return cost.checkout_bytes / (1 << 20)
