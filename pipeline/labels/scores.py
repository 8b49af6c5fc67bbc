"""How doubtful a label is, by the class probabilities of a model that has not seen the image.

Axes: n images, k classes.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64


def doubt(
    labels: Int64[np.ndarray, " n"],
    pred_probs: Float[np.ndarray, "n k"],
    shares: Float64[np.ndarray, "n k"] | None = None,
) -> Float64[np.ndarray, " n"]:
    """0 to 1: the mean of two distances of the probabilities from what was said of an image.

    The total variation distance, for a certain label 1 minus its probability (self-confidence),
    ranks errors of any kind well. Half the difference of the margins finds exchanged classes that
    look alike, where one rival is strong; for a certain label it is 1 minus the normalised margin
    (Northcutt et al. 2021). Of two classes both are the same. shares: what was said, where labels
    are graded.
    """
    said = np.eye(pred_probs.shape[1])[labels] if shares is None else shares
    distance = np.abs(said - pred_probs).sum(axis=1) / 2
    margins = np.abs(_margin(labels, said) - _margin(labels, pred_probs)) / 2
    score: Float64[np.ndarray, " n"] = ((distance + margins) / 2).clip(0, 1)
    return score


def _margin(
    labels: Int64[np.ndarray, " n"], probs: Float[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """How far the label is ahead of the likeliest other class, -1 to 1."""
    rows = np.arange(len(labels))
    others = probs.astype(np.float64)
    others[rows, labels] = 0
    ahead: Float64[np.ndarray, " n"] = probs[rows, labels] - others.max(axis=1)
    return ahead
