"""Each metric as a function of how often an image counts, which makes resampling one product.

Axes: n images, k classes, r resamples.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.metrics import (
    ECE_BINS,
    Labels,
    Probs,
    brier_losses,
    confidence_bins,
    in_top,
    log_losses,
    matthews,
)

Weights = Float[np.ndarray, "r n"]
Values = Float[np.ndarray, " r"]
Statistic = Callable[[Weights], Values]


def statistic(metric: str, labels: Labels, probs: Probs) -> Statistic:
    """The metric of each resample, from how often it drew each image.

    Raises ValueError for a metric that has none.
    """
    predicted = probs.argmax(axis=1)
    match metric:
        case "accuracy":
            return _mean(predicted == labels)
        case "top3_accuracy":
            return _mean(in_top(labels, probs))
        case "log_loss":
            return _mean(log_losses(labels, probs))
        case "brier":
            return _mean(brier_losses(labels, probs))
        case "ece":
            gap = probs.max(axis=1) - (predicted == labels)
            columns = np.eye(ECE_BINS)[confidence_bins(probs, ECE_BINS)] * gap[:, None]
            return lambda weights: np.abs(weights @ columns).sum(axis=1) / weights.sum(axis=1)
        case "roc_auc":
            return _roc_auc(labels, probs)
    return _of_counts(metric, labels, predicted, probs.shape[1])


def f1_of_classes(labels: Labels, probs: Probs, weights: Weights) -> Float[np.ndarray, "r k"]:
    """F1 of each class in each resample; 0 where it occurs neither as label nor as prediction."""
    return _f1(*_counts(labels, probs.argmax(axis=1), probs.shape[1], weights))


def _mean(values: np.ndarray) -> Statistic:
    values = values.astype(float)
    return lambda weights: weights @ values / weights.sum(axis=1)


def _counts(
    labels: Labels, predicted: np.ndarray, k: int, weights: Weights
) -> tuple[np.ndarray, ...]:
    """Of each class in each resample (r, k): right answers, labels, answers."""
    own, given = np.eye(k)[labels], np.eye(k)[predicted]
    return weights @ (own * given), weights @ own, weights @ given


def _of_counts(metric: str, labels: Labels, predicted: np.ndarray, k: int) -> Statistic:
    def compute(weights: Weights) -> Values:
        hits, own, given = _counts(labels, predicted, k, weights)
        match metric:
            case "f1_macro":
                return _mean_where(_f1(hits, own, given), own + given > 0)
            case "f1_weighted":
                weighted = _f1(hits, own, given) * own
                return _ratio(weighted.sum(axis=1), own.sum(axis=1))
            case "balanced_accuracy":
                return _mean_where(_ratio(hits, own), own > 0)
            case "mcc":
                return matthews(hits.sum(axis=1), own, given)
        raise ValueError(f"there is no bootstrap interval for the metric {metric!r}")

    return compute


def _f1(hits: np.ndarray, own: np.ndarray, given: np.ndarray) -> np.ndarray:
    return _ratio(2 * hits, own + given)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    ratio: np.ndarray = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return ratio


def _mean_where(values: np.ndarray, counted: np.ndarray) -> Values:
    mean: Values = (values * counted).sum(axis=1) / counted.sum(axis=1)
    return mean


def _roc_auc(labels: Labels, probs: Probs) -> Statistic:
    """Macro, one against the rest: over the classes that a resample has images of, and others.

    NaN for a resample of a single class.
    """
    present = np.unique(labels)
    orders = [np.argsort(probs[:, c], kind="stable") for c in present]

    def compute(weights: Weights) -> Values:
        total, counted = np.zeros(len(weights)), np.zeros(len(weights))
        for c, order in zip(present, orders, strict=True):
            drawn, scores = weights[:, order], probs[order, c]
            own = labels[order] == c
            starts = np.flatnonzero(np.append(True, np.diff(scores) > 0))
            positive = np.add.reduceat(drawn * own, starts, axis=1)
            negative = np.add.reduceat(drawn * ~own, starts, axis=1)
            below = np.cumsum(negative, axis=1) - negative / 2
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            total += _ratio((positive * below).sum(axis=1), pairs)
            counted += pairs > 0
        return np.where(counted > 0, _ratio(total, counted), np.nan)

    return compute
