"""Learning curves, continued: value = a - b * n ** -c, a power law towards a ceiling.

Hestness et al. 2017 (arXiv 1712.00409) on the form. Axes: s sizes, d draws, r resamples, q sizes
asked for.
"""

import numpy as np
from jaxtyping import Float

EXPONENTS = np.linspace(0.1, 1.5, 29)  # of which the best is taken; steeper or flatter is no fit
Curve = list[Float[np.ndarray, "_ r"]]  # for each size its draws, under each resample of the images


def forecast(
    sizes: Float[np.ndarray, " s"], curve: Curve, asked: Float[np.ndarray, " q"], seed: int
) -> Float[np.ndarray, "q r"]:
    """The value at each size asked for, in every resample of images and of draws; the first one is
    of all images and draws.

    Values are shares, of which larger is better: no ceiling is above 1, and no curve falls.
    """
    random = np.random.default_rng(seed)
    n = curve[0].shape[1]
    values = np.stack([_resampled(draws, n, _noise(curve), random) for draws in curve])
    counts = np.array([len(draws) for draws in curve], np.float64)
    return _predict(sizes, values, counts / counts.sum(), asked)


def _noise(curve: Curve) -> float:
    """The standard deviation of a draw around the mean of its size, pooled over sizes."""
    several = [draws[:, 0] for draws in curve if len(draws) > 1]
    freedom = sum(len(draws) - 1 for draws in several)
    return float(np.sqrt(sum(((d - d.mean()) ** 2).sum() for d in several) / max(freedom, 1)))


def _resampled(
    draws: Float[np.ndarray, "d r"], n: int, noise: float, random: np.random.Generator
) -> Float[np.ndarray, " r"]:
    """The mean of draws, with the chance of a mean of so few; a bootstrap of two or three draws would
    show too little of it, and one of a single draw none.
    """
    chance = random.normal(0, noise / np.sqrt(len(draws)), n)
    chance[0] = 0
    means: Float[np.ndarray, " r"] = draws.mean(axis=0) + chance
    return means


def _predict(
    sizes: Float[np.ndarray, " s"],
    values: Float[np.ndarray, "s r"],
    weights: Float[np.ndarray, " s"],
    asked: Float[np.ndarray, " q"],
) -> Float[np.ndarray, "q r"]:
    """By least squares: for each exponent at once, and of these the best."""
    fits = [_fit(sizes**-c, values, weights) for c in EXPONENTS]
    best = np.argmin([error for _, _, error in fits], axis=0)
    which = np.arange(values.shape[1])
    a, b = (np.array([fit[i] for fit in fits])[best, which] for i in (0, 1))
    falling: Float[np.ndarray, "q r"] = asked[:, None] ** -EXPONENTS[best]
    predicted: Float[np.ndarray, "q r"] = np.maximum(a - b * falling, 0)
    return predicted


def _fit(
    x: Float[np.ndarray, " s"], y: Float[np.ndarray, "s r"], weights: Float[np.ndarray, " s"]
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """a <= 1 and b >= 0 of y = a - b x, and the squared error."""
    mean_x, mean_y = weights @ x, weights @ y
    slope = -((weights * (x - mean_x)) @ (y - mean_y)) / (weights @ (x - mean_x) ** 2)
    b = np.maximum(slope, 0)
    a = mean_y + b * mean_x
    through_one = np.maximum((weights * x) @ (1 - y) / (weights @ x**2), 0)
    a, b = np.where(a > 1, 1, a), np.where(a > 1, through_one, b)
    return a, b, weights @ (y - (a - b * x[:, None])) ** 2
