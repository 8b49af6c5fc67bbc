"""How doubtful a label is, by the class probabilities of a model that has not seen the image.

Axes: n images, k classes.
"""

import numpy as np
from jaxtyping import Float, Float64, Int64


def doubt(
    labels: Int64[np.ndarray, " n"], pred_probs: Float[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """0 to 1: the mean of 1 - p and (1 - p + q) / 2, where p is the probability of the label and q
    that of the likeliest other class; of two classes 1 - p.

    The first, self-confidence, ranks errors of any kind well. The second, the normalised margin
    (Northcutt et al. 2021), finds exchanged classes that look alike, where one rival is strong.
    """
    rows = np.arange(len(labels))
    own = pred_probs[rows, labels].astype(np.float64)
    others = pred_probs.astype(np.float64)
    others[rows, labels] = 0
    score: Float64[np.ndarray, " n"] = 1 - (own + (1 + own - others.max(axis=1)) / 2) / 2
    return score.clip(0, 1)
