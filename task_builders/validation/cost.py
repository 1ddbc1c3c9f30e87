"""The cost of making and checking a task. Pure."""

from collections.abc import Sequence

from envfarm.core.validation import Cost
from task_builders.validation.scoring import Score


def with_checks(built: Cost, *, validate_s: float, gold: Sequence[Score]) -> Cost:
    """Add the duration of validation and the median duration of one grading of gold."""
    seconds = sorted(score.seconds for score in gold)
    verify_s = seconds[len(seconds) // 2] if seconds else 0.0
    return built.model_copy(update={"validate_s": round(validate_s, 2), "verify_s": round(verify_s, 2)})


def seconds(cost: Cost) -> float:
    """The total of all steps."""
    return cost.build_s + cost.checkout_s + cost.validate_s


def own_mib(cost: Cost) -> float:
    """Disk space of the task alone, in MiB; its layer is shared."""
    return cost.checkout_bytes / (1 << 20)
