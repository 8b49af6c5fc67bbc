"""Figures of merit from labels (n) and class probabilities (n, k).

The prediction is the most probable class, the first one on a tie; the confidence is its
probability. Axes: n images, k classes.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int64

from pipeline import FieldmarkError

# Part of a metric's definition, not settings: figures with another value cannot be compared.
ECE_BINS = 15
TOP = 3

Labels = Int64[np.ndarray, " n"]
Probs = Float[np.ndarray, "n k"]


def summary(labels: Labels, probs: Probs) -> dict[str, float]:
    """The figures of one model.

    f1_macro averages over the classes that occur as label or prediction, balanced_accuracy over
    those that occur as label. brier is summed over classes, 0 to 2 (Brier 1950). ece is that of Guo
    et al. 2017. top3_accuracy is left out for three classes or fewer; roc_auc (macro, one against
    the rest) where no class has both images and counterexamples.

    Raises FieldmarkError without images, ValueError for labels or probabilities out of range.
    """
    from sklearn.metrics import f1_score, recall_score, roc_auc_score  # which takes a second

    probs = checked(labels, probs)
    predicted = probs.argmax(axis=1)
    present = np.unique(labels)
    figures = {
        "accuracy": np.mean(predicted == labels),
        "f1_macro": f1_score(labels, predicted, average="macro"),
        "f1_weighted": f1_score(labels, predicted, average="weighted"),
        "balanced_accuracy": recall_score(labels, predicted, labels=present, average="macro"),
        "mcc": _mcc(labels, predicted, probs.shape[1]),
        "log_loss": log_losses(labels, probs).mean(),
        "brier": brier_losses(labels, probs).mean(),
        "ece": _ece(labels, probs),
    }
    if probs.shape[1] > TOP:
        figures["top3_accuracy"] = in_top(labels, probs).mean()
    if len(present) > 1:
        figures["roc_auc"] = np.mean([roc_auc_score(labels == c, probs[:, c]) for c in present])
    return {name: float(figure) for name, figure in figures.items()}


def per_class(labels: Labels, probs: Probs, classes: Sequence[str]) -> pd.DataFrame:
    """Columns class, n, precision, recall, f1, most_confused_with; one row per class.

    NaN where undefined: recall of a class without images, precision of one that is never predicted.
    most_confused_with is the class that most of the wrongly classified images get, "" where there
    are none.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

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
    groups = images.astype(float).groupby(confidence_bins(probs, n_bins))
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


def log_losses(labels: Labels, probs: Probs) -> Float[np.ndarray, " n"]:
    """-log of the probability of the label, of each image."""
    true = probs[np.arange(len(labels)), labels]
    losses: Float[np.ndarray, " n"] = -np.log(np.maximum(true, np.finfo(np.float64).eps))
    return losses


def brier_losses(labels: Labels, probs: Probs) -> Float[np.ndarray, " n"]:
    """Squared distance of probabilities and label, of each image."""
    losses: Float[np.ndarray, " n"] = np.square(probs - np.eye(probs.shape[1])[labels]).sum(axis=1)
    return losses


def in_top(labels: Labels, probs: Probs) -> Bool[np.ndarray, " n"]:
    """Whether the label is among the TOP likeliest classes."""
    # scikit-learn's top_k breaks ties towards the last class, so top 3 could fall below top 1.
    best = np.argsort(-probs, axis=1, kind="stable")[:, :TOP]
    hits: Bool[np.ndarray, " n"] = (best == labels[:, None]).any(axis=1)
    return hits


def confidence_bins(probs: Probs, n_bins: int) -> Int64[np.ndarray, " n"]:
    """The bin of each image's confidence, equal widths (low, high]."""
    edges = np.linspace(0, 1, n_bins + 1)
    bins: Int64[np.ndarray, " n"] = np.searchsorted(edges, probs.max(axis=1), side="left") - 1
    return bins


def _ece(labels: Labels, probs: Probs) -> float:
    gap = probs.max(axis=1) - (probs.argmax(axis=1) == labels)
    sums = np.bincount(confidence_bins(probs, ECE_BINS), weights=gap, minlength=ECE_BINS)
    return float(np.abs(sums).sum() / len(labels))


def _mcc(labels: Labels, predicted: Int64[np.ndarray, " n"], k: int) -> float:
    own, given = (
        np.bincount(each, minlength=k)[None].astype(float) for each in (labels, predicted)
    )
    return float(matthews(np.array([(predicted == labels).sum()], np.float64), own, given)[0])


def matthews(
    right: Float[np.ndarray, " r"], own: Float[np.ndarray, "r k"], given: Float[np.ndarray, "r k"]
) -> Float[np.ndarray, " r"]:
    """Matthews' correlation for several classes (Gorodkin 2004); 0 where one side is constant.

    right: how many answers are right; own and given: labels and answers of each class.
    """
    total = own.sum(axis=1)
    above = right * total - (own * given).sum(axis=1)
    spread = (total**2 - (own**2).sum(axis=1)) * (total**2 - (given**2).sum(axis=1))
    root = np.sqrt(np.maximum(spread, 0))
    correlation: Float[np.ndarray, " r"] = np.divide(
        above, root, out=np.zeros_like(above), where=root > 0
    )
    return correlation
