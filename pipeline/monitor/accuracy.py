"""The accuracy of a version: estimated from its confidence, and counted by people's labels."""

import pandas as pd

FEWEST = 50  # answers from which an accuracy is estimated without labels


def above(k: int, n: int, limit: float) -> bool:
    """Whether k of n cases exceed the rate `limit` by more than chance: exact test, level 2.5 %."""
    from scipy.stats import binomtest  # which takes a second

    return n > 0 and bool(binomtest(k, n, limit, alternative="greater").pvalue < 0.025)


def threshold(reference: pd.DataFrame) -> float:
    """The threshold of ATC (Garg et al. 2022).

    The share of the reference with at least this confidence equals its accuracy.
    """
    wrong = int((reference["predicted"] != reference["label"]).sum())
    ranked = reference["confidence"].sort_values(ignore_index=True)
    return float(ranked[wrong]) if wrong < len(ranked) else float("inf")


def expected(reference: pd.DataFrame, confidence: pd.Series) -> tuple[float, int]:
    """The expected accuracy without labels, by two methods: the mean confidence, and ATC.

    The second is the number of answers that ATC takes for right. Both hold while the model stays
    calibrated; strange images make both too high.
    """
    return float(confidence.mean()), int((confidence >= threshold(reference)).sum())
