"""The statistical confidence of repeated equal results. Pure."""

import math

Z_95 = 1.959963984540054
"""Two-sided 95 %."""


def wilson_lower(successes: int, trials: int, *, z: float = Z_95) -> float:
    """The lower end of Wilson's interval for a probability, after `successes` of `trials`; 0 without trials.

    Five of five only show that a test passes at least 57 % of the time. Reports state this bound instead of claiming that a test is steady.
    """
    if trials <= 0:
        return 0.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - spread) / (1 + z * z / trials))
