"""Figures of merit from labels (n) and class probabilities (n, k).

The prediction is the most probable class, the first one on a tie; the confidence is its
probability. Axes: n images, k classes, r resamples, c columns.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64
from sklearn.metrics import (
    confusion_matrix,
    f1_score,
    precision_recall_fscore_support,
    recall_score,
    roc_auc_score,
)

from pipeline import FieldmarkError

# Part of a metric's definition, not settings: figures with another value cannot be compared.
ECE_BINS = 15
TOP = 3

Labels = Int64[np.ndarray, " n"]
Probs = Float[np.ndarray, "n k"]
Columns = Float[np.ndarray, "n c"]
Reduce = Callable[[Float[np.ndarray, "r c"]], Float[np.ndarray, " r"]]


def summary(labels: Labels, probs: Probs) -> dict[str, float]:
    """The figures of one model.

    f1_macro averages over the classes that occur as label or prediction, balanced_accuracy over
    those that occur as label. brier is summed over classes, 0 to 2 (Brier 1950). ece is that of Guo
    et al. 2017. top3_accuracy is left out for three classes or fewer; roc_auc (macro, one against
    the rest) where no class has both images and counterexamples.

    Raises FieldmarkError without images, ValueError for labels or probabilities out of range.
    """
    probs = checked(labels, probs)
    predicted = probs.argmax(axis=1)
    present = np.unique(labels)
    figures = {
        "accuracy": np.mean(predicted == labels),
        "f1_macro": f1_score(labels, predicted, average="macro"),
        "balanced_accuracy": recall_score(labels, predicted, labels=present, average="macro"),
        "log_loss": _log_losses(labels, probs).mean(),
        "brier": _brier_losses(labels, probs).mean(),
        "ece": _ece(labels, probs),
    }
    if probs.shape[1] > TOP:
        figures["top3_accuracy"] = _in_top(labels, probs).mean()
    if len(present) > 1:
        figures["roc_auc"] = np.mean([roc_auc_score(labels == c, probs[:, c]) for c in present])
    return {name: float(figure) for name, figure in figures.items()}


def per_class(labels: Labels, probs: Probs, classes: Sequence[str]) -> pd.DataFrame:
    """Columns class, n, precision, recall, f1, most_confused_with; one row per class.

    NaN where undefined: recall of a class without images, precision of one that is never predicted.
    most_confused_with is the class that most of the wrongly classified images get, "" where there
    are none.
    """
    probs = checked(labels, probs)
    class_indices = np.arange(len(classes))
    predicted = probs.argmax(axis=1)
    precision, recall, f1, n = precision_recall_fscore_support(
        labels, predicted, labels=class_indices, zero_division=np.nan
    )
    mistakes = confusion_matrix(labels, predicted, labels=class_indices)
    np.fill_diagonal(mistakes, 0)
    confused = [classes[row.argmax()] if row.any() else "" for row in mistakes]
    return pd.DataFrame(
        {
            "class": list(classes),
            "n": n,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "most_confused_with": confused,
        }
    )


def confusion(labels: Labels, probs: Probs, classes: Sequence[str]) -> pd.DataFrame:
    """Columns actual, predicted: class names, one row per image, for DVC's confusion template."""
    names = np.asarray(classes, dtype=object)
    predicted = checked(labels, probs).argmax(axis=1)
    return pd.DataFrame({"actual": names[labels], "predicted": names[predicted]})


def reliability(labels: Labels, probs: Probs, n_bins: int) -> pd.DataFrame:
    """Columns low, high, n, confidence, accuracy: equal-width bins (low, high] of the confidence.

    An empty bin has NaN as confidence and accuracy.
    """
    probs = checked(labels, probs)
    edges = np.linspace(0, 1, n_bins + 1)
    images = pd.DataFrame(
        {"confidence": probs.max(axis=1), "accuracy": probs.argmax(axis=1) == labels}
    )
    groups = images.astype(float).groupby(_bin(probs, n_bins))
    bins = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    bins["n"] = groups.size().reindex(bins.index, fill_value=0)
    return bins.join(groups.mean())


def risk_coverage(labels: Labels, probs: Probs) -> pd.DataFrame:
    """Columns threshold, coverage, risk (fractions): answer only at this confidence or above.

    El-Yaniv and Wiener 2010. One row per confidence that occurs, from the surest down to all
    images.
    """
    probs = checked(labels, probs)
    confidence = probs.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    n_answered = np.arange(1, len(labels) + 1)
    wrong = np.cumsum(probs.argmax(axis=1)[order] != labels[order])
    curve = pd.DataFrame(
        {
            "threshold": confidence[order],
            "coverage": n_answered / len(labels),
            "risk": wrong / n_answered,
        }
    )
    # Images of the same confidence cannot be told apart by a threshold, so they enter together.
    return curve.drop_duplicates("threshold", keep="last", ignore_index=True)


def checked(labels: Labels, probs: Probs) -> Float[np.ndarray, "n k"]:
    """Probabilities in double precision, so that rows of float32 add up to one closely enough."""
    if len(labels) == 0:
        raise FieldmarkError(
            "There is no labelled image to evaluate on: enlarge the test split or label more "
            "images."
        )
    if labels.min() < 0 or labels.max() >= probs.shape[1]:
        raise ValueError(
            f"labels must lie in 0..{probs.shape[1] - 1}, got {labels.min()}..{labels.max()}"
        )
    probs = probs.astype(np.float64)
    totals = probs.sum(axis=1, keepdims=True)
    if not (np.isfinite(probs).all() and (probs >= 0).all() and np.allclose(totals, 1, atol=1e-2)):
        raise ValueError("each row of probs must be finite, not negative, and sum to one")
    # Rounding in the division can carry a sure answer past one, where no bin would take it.
    scaled: Float[np.ndarray, "n k"] = np.minimum(probs / totals, 1)
    return scaled


def _log_losses(labels: Labels, probs: Probs) -> Float[np.ndarray, " n"]:
    true = probs[np.arange(len(labels)), labels]
    losses: Float[np.ndarray, " n"] = -np.log(np.maximum(true, np.finfo(np.float64).eps))
    return losses


def _brier_losses(labels: Labels, probs: Probs) -> Float[np.ndarray, " n"]:
    losses: Float[np.ndarray, " n"] = np.square(probs - np.eye(probs.shape[1])[labels]).sum(axis=1)
    return losses


def _in_top(labels: Labels, probs: Probs) -> Bool[np.ndarray, " n"]:
    # scikit-learn's top_k breaks ties towards the last class, so top 3 could fall below top 1.
    best = np.argsort(-probs, axis=1, kind="stable")[:, :TOP]
    hits: Bool[np.ndarray, " n"] = (best == labels[:, None]).any(axis=1)
    return hits


def _bin(probs: Probs, n_bins: int) -> Int64[np.ndarray, " n"]:
    edges = np.linspace(0, 1, n_bins + 1)
    bins: Int64[np.ndarray, " n"] = np.searchsorted(edges, probs.max(axis=1), side="left") - 1
    return bins


def _ece(labels: Labels, probs: Probs) -> float:
    columns, reduce = statistic("ece", labels, probs)
    return float(reduce(columns.mean(axis=0, keepdims=True))[0])


def statistic(metric: str, labels: Labels, probs: Probs) -> tuple[Columns, Reduce]:
    """The metric as a function of means over images.

    This makes all resamples one matrix product.
    """
    predicted = probs.argmax(axis=1)
    one_hot = np.eye(probs.shape[1])
    match metric:
        case "accuracy":
            return (predicted == labels)[:, None].astype(float), _only_column
        case "log_loss":
            return _log_losses(labels, probs)[:, None], _only_column
        case "ece":
            gap = probs.max(axis=1) - (predicted == labels)
            return np.eye(ECE_BINS)[_bin(probs, ECE_BINS)] * gap[:, None], _total_size
        case "f1_macro":
            hits = one_hot[labels] * (predicted == labels)[:, None]
            return np.hstack([hits, (one_hot[labels] + one_hot[predicted]) / 2]), _mean_ratio
    raise ValueError(f"there is no bootstrap interval for the metric {metric!r}")


def _only_column(means: Float[np.ndarray, "r 1"]) -> Float[np.ndarray, " r"]:
    return means[:, 0]


def _total_size(means: Float[np.ndarray, "r c"]) -> Float[np.ndarray, " r"]:
    sizes: Float[np.ndarray, " r"] = np.abs(means).sum(axis=1)
    return sizes


def _mean_ratio(means: Float[np.ndarray, "r c"]) -> Float[np.ndarray, " r"]:
    """Mean over classes of left half / right half of the columns, where the latter is not 0."""
    above, below = np.split(means, 2, axis=1)
    ratios = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    average: Float[np.ndarray, " r"] = ratios.sum(axis=1) / (below > 0).sum(axis=1)
    return average
