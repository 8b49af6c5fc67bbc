"""Whether a probability can be taken at its word, before and after the temperature.

Axes: n images, k classes, r resamples, b bins.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import intervals
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.metrics import ECE_BINS, Labels, Probs, checked, confidence_bins, summary

COMPARED = ("log_loss", "brier", "ece")
CLASSWISE = "mean distance of probability and frequency over the classes; 0 is perfect"
DEBIASED = "the same by squares, less what chance adds with so few images; 0 is perfect"
SIMULATED = 500  # label sets of a perfectly calibrated model; enough for a 95 % quantile


class Gaps(NamedTuple):
    """Per resample: the classwise ECE, and the squared error less what chance adds to it."""

    ece: Float[np.ndarray, " r"]
    squared: Float[np.ndarray, " r"]


def figures(labels: Labels, probs: Probs, bootstrap: Bootstrap, seed: int) -> Figures:
    """The classwise ECE and its debiased form, with intervals, and the ECE that chance explains.

    classwise_ece   mean over classes of the gap between probability and frequency, over bins of
                    equal width (Kull et al., NeurIPS 2019)
    classwise_rmse  the same by squares, less what the number of images adds by chance; 0 for a
                    calibrated model, on average (Kumar, Liang and Ma, NeurIPS 2019, section 4)
    ece_by_chance   what the ECE of a perfectly calibrated model with these probabilities stays
                    below 95 times of 100 (Broecker and Smith, Weather and Forecasting 2007)
    """
    probs = checked(labels, probs)
    bins = _bins(probs)
    point = _gaps(labels, probs, bins, np.ones((1, len(labels))))
    parts = [
        _gaps(labels, probs, bins, weights)
        for weights in intervals.resamples(len(labels), bootstrap.n_resamples, seed)
    ]
    draws = Gaps(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    # A resample repeats images, which adds the same chance once more.
    twice = draws.squared - (draws.squared.mean() - point.squared[0])
    n, level = len(labels), bootstrap.level
    how = f"{ECE_BINS} bins, percentile bootstrap, {bootstrap.n_resamples} resamples; {level:.0%} interval"
    return {
        "classwise_ece": _figure(n, point.ece, draws.ece, level, how, CLASSWISE),
        "classwise_rmse": _figure(
            n, _root(point.squared), _root(twice), level, f"debiased; {how}", DEBIASED
        ),
        "ece_by_chance": Figure(
            value=float(np.quantile(_simulated(probs, seed), 0.95)),
            n=n,
            method=f"95 % quantile of {SIMULATED} simulated label sets, seed {seed}",
            meaning="what the ECE of a perfectly calibrated model would stay below",
        ),
    }


def before_and_after(
    after: Figures,
    labels: Labels,
    probs: Probs,
    temperature: float,
    bootstrap: Bootstrap,
    seed: int,
) -> pd.DataFrame:
    """Columns figure, before, before_low, before_high, after, after_low, after_high.

    probs: those after the division of the logits by the temperature; after: their figures, of
    headline, by the same bootstrap.
    """
    raw = uncalibrated(probs, temperature)
    before = summary(labels, raw)
    bounds = intervals.bootstrap(labels, raw, metrics=COMPARED, **bootstrap.model_dump(), seed=seed)
    columns = {
        "figure": list(COMPARED),
        "before": [before[name] for name in COMPARED],
        "before_low": [bounds[name][0] for name in COMPARED],
        "before_high": [bounds[name][1] for name in COMPARED],
        "after": [after[name].value for name in COMPARED],
        "after_low": [after[name].low for name in COMPARED],
        "after_high": [after[name].high for name in COMPARED],
    }
    return pd.DataFrame(columns)


def uncalibrated(probs: Probs, temperature: float) -> Float[np.ndarray, "n k"]:
    """The softmax without the temperature."""
    logits = temperature * np.log(np.maximum(probs, np.finfo(np.float64).tiny))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    plain: Float[np.ndarray, "n k"] = powers / powers.sum(axis=1, keepdims=True)
    return plain


def _bins(probs: Probs) -> Int64[np.ndarray, "n k"]:
    edges = np.linspace(0, 1, ECE_BINS + 1)
    return np.clip(np.searchsorted(edges, probs, side="left") - 1, 0, ECE_BINS - 1)


def _gaps(
    labels: Labels,
    probs: Float[np.ndarray, "n k"],
    bins: Int64[np.ndarray, "n k"],
    weights: Float[np.ndarray, "r n"],
) -> Gaps:
    n, k = weights.sum(axis=1), probs.shape[1]
    ece, squared = np.zeros(len(weights)), np.zeros(len(weights))
    for c in range(k):
        member = np.eye(ECE_BINS)[bins[:, c]]
        count = weights @ member
        filled = np.maximum(count, 1)
        gap = weights @ (member * (probs[:, c] - (labels == c))[:, None])
        share = weights @ (member * (labels == c)[:, None]) / filled
        ece += np.abs(gap).sum(axis=1) / n / k
        chance = share * (1 - share) / np.maximum(count - 1, 1)
        # A bin with a single image tells nothing of its own chance, so it is left out.
        terms = np.where(count > 1, count * ((gap / filled) ** 2 - chance), 0)
        squared += terms.sum(axis=1) / n / k
    return Gaps(ece, squared)


def _root(squared: Float[np.ndarray, " r"]) -> Float[np.ndarray, " r"]:
    root: Float[np.ndarray, " r"] = np.sqrt(np.maximum(squared, 0))
    return root


def _figure(
    n: int, point: np.ndarray, draws: np.ndarray, level: float, method: str, meaning: str
) -> Figure:
    low, high = intervals.percentiles(float(point[0]), draws, level)
    return Figure(value=float(point[0]), n=n, method=method, meaning=meaning, low=low, high=high)


def _simulated(probs: Float[np.ndarray, "n k"], seed: int) -> Float[np.ndarray, " r"]:
    """The ECE of label sets that are drawn from the probabilities themselves."""
    rng, confidence = np.random.default_rng(seed), probs.max(axis=1)
    hit = rng.random((SIMULATED, len(probs))) < confidence
    bins = confidence_bins(probs, ECE_BINS)
    sums: Float[np.ndarray, "r b"] = (confidence - hit) @ np.eye(ECE_BINS)[bins]
    eces: Float[np.ndarray, " r"] = np.abs(sums).sum(axis=1) / len(probs)
    return eces
