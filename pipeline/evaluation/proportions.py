"""The interval of a share: how well so many images tell it."""

from scipy.stats import binomtest

LEVEL = 0.95  # of the intervals; part of the figures' definition, not a setting


def wilson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share (Wilson 1927); 0 to 1 without a case."""
    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(right, n).proportion_ci(level, method="wilson")
    return float(low), float(high)
