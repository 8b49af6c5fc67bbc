"""How likely each given label is wrong, from what models of the other images say.

A given label is taken to be the true class, except for a share of labels that became any other class,
and one that became a class which looks alike (as a noise model over the answers of a network:
Sukhbaatar et al., arXiv 1406.2080, section 3). Both shares, and how sure the probabilities may be
(their temperature: Guo et al., ICML 2017), are unknown: the result is the mean over all of their
values on a grid, each by how well it explains the given labels and how plausible it is beforehand.

Few images say little, and then about PLAUSIBLE of the labels count as wrong. Where a fifth of the
labels is wrong, or a tenth became a class that looks alike, it says too few: many such labels look
like hard images (tests/benchmarks/README.md has the figures).
Axes: n images, k classes.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.special import logsumexp, softmax

PLAUSIBLE = 0.1  # of labels are wrong, on average, before anything is seen: a Beta(1, 9)
SHARES = np.array([0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
MOST = 0.5  # of all labels
SHARPNESS = np.geomspace(1 / 32, 8, 25)  # inverse temperatures
TINY = 1e-12  # of a probability, whose logarithm must be finite
UNLIKELY = 1e-6  # values with less weight than that change nothing
AT_ONCE = 10_000  # images whose probabilities are in memory once more


class Explained(NamedTuple):
    """The chance of the given label, float64 (n,): where nothing is wrong, where any class becomes any
    other, and where one becomes its likes.
    """

    right: Float64[np.ndarray, " n"]
    anything: Float64[np.ndarray, " n"]
    alike: Float64[np.ndarray, " n"]

    def wrong(self, uniform: float, alike: float) -> Float64[np.ndarray, " n"]:
        """The chance of the label by way of an error of these shares."""
        chance: Float64[np.ndarray, " n"] = uniform * self.anything + alike * self.alike
        return chance


def chance_wrong(
    labels: Int64[np.ndarray, " n"], pred_probs: Float[np.ndarray, "n k"]
) -> Float64[np.ndarray, " n"]:
    """The chance, 0 to 1, that each label is wrong; 0 where there are less than two classes.

    pred_probs: by models that have not seen the image.
    """
    n, k = pred_probs.shape
    if k < 2 or n == 0:
        return np.zeros(n)
    alike, shares = likes(labels, pred_probs), list(_shares(k))
    explained = [_explained(labels, pred_probs, alike, sharpness) for sharpness in SHARPNESS]
    points = list(product(range(len(SHARPNESS)), range(len(shares))))
    weights = np.array(
        [_log_likelihood(explained[i], *shares[j][:2]) + shares[j][2] for i, j in points]
    )
    weights = np.exp(weights - logsumexp(weights))
    chance = np.zeros(n)
    for (i, j), weight in zip(points, weights, strict=True):
        if weight >= UNLIKELY:
            uniform, to_likes, _ = shares[j]
            wrong = explained[i].wrong(uniform, to_likes)
            right = (1 - uniform - to_likes) * explained[i].right
            chance += weight * wrong / (right + wrong + TINY)
    return chance.clip(0, 1)


def _shares(k: int) -> Iterator[tuple[float, float, float]]:
    """Each pair of shares, and the logarithm of its prior: of their sum a Beta(1, 9), which both kinds
    divide in any way. Of two classes both kinds are the same.
    """
    width = np.gradient(SHARES)
    for i, j in product(range(len(SHARES)), range(len(SHARES) if k > 2 else 1)):
        uniform, alike = float(SHARES[i]), float(SHARES[j])
        if uniform + alike <= MOST:
            prior = (1 / PLAUSIBLE - 2) * np.log1p(-uniform - alike) + np.log(width[i])
            if k > 2:
                prior += np.log(width[j]) - np.log(uniform + alike + SHARES[1])
            yield uniform, alike, float(prior)


def likes(
    labels: Int64[np.ndarray, " n"], pred_probs: Float[np.ndarray, "n k"]
) -> Float64[np.ndarray, "k k"]:
    """What each class (row) is taken for, its own images left out; rows sum to 1."""
    k = pred_probs.shape[1]
    means = [
        pred_probs[labels == own].mean(axis=0) if (labels == own).any() else np.ones(k)
        for own in range(k)
    ]
    others = np.stack(means).astype(np.float64) + TINY
    np.fill_diagonal(others, 0)
    shares: Float64[np.ndarray, "k k"] = others / others.sum(axis=1, keepdims=True)
    return shares


def _explained(
    labels: Int64[np.ndarray, " n"],
    pred_probs: Float[np.ndarray, "n k"],
    alike: Float64[np.ndarray, "k k"],
    sharpness: float,
) -> Explained:
    parts = []
    for start in range(0, len(labels), AT_ONCE):
        own = labels[start : start + AT_ONCE]
        some = pred_probs[start : start + AT_ONCE].astype(np.float64)
        probs = softmax(sharpness * np.log(some + TINY), axis=1)
        right = probs[np.arange(len(own)), own]
        anything = (1 - right) / (probs.shape[1] - 1)
        parts.append((right, anything, (probs * alike.T[own]).sum(axis=1)))
    return Explained(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _log_likelihood(explained: Explained, uniform: float, alike: float) -> float:
    chance = (1 - uniform - alike) * explained.right + explained.wrong(uniform, alike)
    return float(np.log(chance + TINY).sum())
