"""The interval of a share: how well so many images tell it."""

import numpy as np
from jaxtyping import Bool

from pipeline.evaluation.figures import Figure

LEVEL = 0.95  # of the intervals; part of the figures' definition, not a setting


def wilson(right: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a share (Wilson 1927); 0 to 1 without a case."""
    from scipy.stats import binomtest  # which takes a second

    if n == 0:
        return 0.0, 1.0
    low, high = binomtest(right, n).proportion_ci(level, method="wilson")
    return float(low), float(high)


def figure(hits: Bool[np.ndarray, " n"], method: str, meaning: str) -> Figure:
    """The share of hits, with the interval that its method ends with."""
    low, high = wilson(int(hits.sum()), len(hits))
    return Figure(
        value=float(hits.mean()),
        n=len(hits),
        method=f"{method}; Wilson interval, {LEVEL:.0%}",
        meaning=meaning,
        low=low,
        high=high,
    )
