"""Abstention: a confidence below which a model says "I am not sure".

Its answers above that confidence are right often enough.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Abstention:
    """Abstain below `confidence`; val_risk and val_coverage are those on the validation images."""

    confidence: float
    target_risk: float
    delta: float
    guaranteed: bool
    val_coverage: float
    val_risk: float
    val_n: int


def abstention(
    confidence: Float[np.ndarray, " n"],
    correct: Bool[np.ndarray, " n"],
    *,
    target_risk: float,
    delta: float,
) -> Abstention:
    """The least confidence above which the share of errors is at most target_risk.

    It holds with probability 1 - delta: selection with guaranteed risk (Geifman and El-Yaniv,
    NeurIPS 2017, algorithm 1), a binary search over thresholds, each judged by the exact binomial
    bound (Clopper-Pearson) at delta / number of thresholds tried. Where no threshold can be
    guaranteed (too few images), the least one that kept the risk on these images is chosen, and
    guaranteed is False.
    """
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~correct[order])
    # How many images each threshold answers; equal confidences go together.
    sizes = np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) + 1
    n = _guaranteed(sizes, errors, target_risk, delta)
    guaranteed = n is not None
    if n is None:
        empirical = [size for size in sizes if errors[size - 1] <= target_risk * size]
        n = int(empirical[-1]) if empirical else 0
    return Abstention(
        confidence=float(confidence[order][n - 1]) if n else 1.0,
        target_risk=target_risk,
        delta=delta,
        guaranteed=guaranteed,
        val_coverage=n / len(order),
        val_n=len(order),
        val_risk=float(errors[n - 1] / n) if n else 0.0,
    )


def _guaranteed(
    sizes: np.ndarray, errors: np.ndarray, target_risk: float, delta: float
) -> int | None:
    """The largest number of answered images whose risk is guaranteed, or None."""
    steps = max(1, int(np.ceil(np.log2(max(len(sizes), 2)))))
    low, high, largest = 0, len(sizes) - 1, None
    while low <= high:
        middle = (low + high) // 2
        n = int(sizes[middle])
        if _upper(int(errors[n - 1]), n, delta / steps) <= target_risk:
            largest, low = n, middle + 1
        else:
            high = middle - 1
    return largest


def _upper(errors: int, n: int, delta: float) -> float:
    """The one-sided Clopper-Pearson bound of an error rate."""
    from scipy.stats import beta  # which takes a second

    return 1.0 if errors >= n else float(beta.ppf(1 - delta, errors + 1, n - errors))
