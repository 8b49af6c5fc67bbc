"""How often a version is right: estimated from its confidence, and counted where people said what
it was.
"""

import pandas as pd
from scipy.stats import binomtest


def above(k: int, n: int, limit: float) -> bool:
    """Whether k of n cases are more than a rate of `limit` would give by chance (exact, in one case
    of forty).
    """
    return n > 0 and bool(binomtest(k, n, limit, alternative="greater").pvalue < 0.025)


def threshold(reference: pd.DataFrame) -> float:
    """The confidence that a share of the reference equal to its accuracy exceeds or equals (ATC,
    Garg et al. 2022).
    """
    wrong = int((reference["predicted"] != reference["label"]).sum())
    ranked = reference["confidence"].sort_values(ignore_index=True)
    return float(ranked[wrong]) if wrong < len(ranked) else float("inf")


def expected(reference: pd.DataFrame, confidence: pd.Series) -> tuple[float, float]:
    """The accuracy to expect without labels, by two methods: the mean confidence, and ATC.

    Both hold while confidence means what it meant in training; strange images make both too high.
    """
    return float(confidence.mean()), float((confidence >= threshold(reference)).mean())
