"""What N equal answers are worth. Pure; used by the gates that repeat a run."""

import math

Z = 1.959963984540054
"""Two-sided 95 %."""


def wilson_lower(successes: int, trials: int) -> float:
    """The lower end of Wilson's 95 % interval for a probability, after `successes` of `trials`; 0 without trials.

    Five of five says only that a test passes at least 57 % of the time: what a steady test is worth is told, not claimed.
    """
    if trials <= 0:
        return 0.0
    share = successes / trials
    centre = share + Z * Z / (2 * trials)
    spread = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    return max(0.0, (centre - spread) / (1 + Z * Z / trials))
