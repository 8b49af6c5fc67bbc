"""When to say "I am not sure": a confidence below which a model abstains, so that what it does say
is right often enough.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import beta


@dataclass(frozen=True)
class Abstention:
    """Abstain below `confidence`; val_risk and val_coverage are those on the images that it was
    chosen on.
    """

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
    """The least confidence above which the share of errors is at most target_risk, with probability
    1 - delta.

    Selection with guaranteed risk (Geifman and El-Yaniv, NeurIPS 2017, algorithm 1): a binary
    search over thresholds, each judged by the exact binomial bound (Clopper-Pearson) at delta /
    number of thresholds looked at. Where no threshold can be vouched for (too few images), the
    least one that kept the risk on these images is taken, and guaranteed is False.
    """
    order = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(~correct[order])
    kept = (
        np.flatnonzero(np.append(np.diff(confidence[order]) != 0, True)) + 1
    )  # equal confidences go together
    found = _vouched(kept, errors, target_risk, delta)
    guaranteed = found is not None
    if found is None:
        empirical = [k for k in kept if errors[k - 1] <= target_risk * k]
        found = int(empirical[-1]) if empirical else 0
    return Abstention(
        confidence=float(confidence[order][found - 1]) if found else 1.0,
        target_risk=target_risk,
        delta=delta,
        guaranteed=guaranteed,
        val_coverage=found / len(order),
        val_n=len(order),
        val_risk=float(errors[found - 1] / found) if found else 0.0,
    )


def _vouched(kept: np.ndarray, errors: np.ndarray, target_risk: float, delta: float) -> int | None:
    steps = max(1, int(np.ceil(np.log2(max(len(kept), 2)))))
    low, high, found = 0, len(kept) - 1, None
    while low <= high:
        middle = (low + high) // 2
        n = int(kept[middle])
        if _upper(int(errors[n - 1]), n, delta / steps) <= target_risk:
            found, low = n, middle + 1
        else:
            high = middle - 1
    return found


def _upper(errors: int, n: int, delta: float) -> float:
    """The one-sided Clopper-Pearson bound of an error rate."""
    return 1.0 if errors >= n else float(beta.ppf(1 - delta, errors + 1, n - errors))
