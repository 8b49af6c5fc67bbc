"""Intervals of a model's figures, by bootstrap over the test images.

Axes: n images, k classes, r resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.metrics import Labels, Probs, checked
from pipeline.evaluation.statistics import Statistic, f1_of_classes, statistic

# Bounds the memory: weights of at most this many numbers are held at once.
WEIGHTS_AT_ONCE = 4_000_000
Bounds = tuple[float, float]


def bootstrap(
    labels: Labels,
    probs: Probs,
    *,
    metrics: Sequence[str],
    n_resamples: int,
    level: float,
    seed: int,
) -> dict[str, Bounds]:
    """Percentile bootstrap over images (Efron 1979), with the same resamples for all metrics.

    An interval is widened to the point estimate where the percentiles miss it: resampling adds to
    the bias of ece. Raises ValueError for a metric that has no statistic.
    """
    probs = checked(labels, probs)
    statistics = {metric: statistic(metric, labels, probs) for metric in metrics}
    drawn = draws(statistics, len(labels), n_resamples, seed)
    return {metric: interval(values, level) for metric, values in drawn.items()}


def draws(
    statistics: Mapping[str, Statistic], n: int, n_resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " _"]]:
    """Each figure on all n images, and then on every resample of them; the same resamples for all."""
    weights = chain([np.ones((1, n))], resamples(n, n_resamples, seed))
    parts = [{name: compute(some) for name, compute in statistics.items()} for some in weights]
    return {name: np.concatenate([part[name] for part in parts]) for name in statistics}


def interval(drawn: Float[np.ndarray, " _"], level: float) -> Bounds:
    """The percentiles of one figure of `draws`."""
    return percentiles(float(drawn[0]), drawn[1:], level)


def f1_by_class(
    labels: Labels, probs: Probs, *, n_resamples: int, level: float, seed: int
) -> list[Bounds]:
    """The interval of each class's F1."""
    drawn = f1_draws(labels, probs, n_resamples, seed)
    return [interval(column, level) for column in drawn.T]


def f1_draws(labels: Labels, probs: Probs, n_resamples: int, seed: int) -> Float[np.ndarray, "_ k"]:
    """The F1 of each class on all images, and then on the resamples that `draws` takes."""
    weights = chain([np.ones((1, len(labels)))], resamples(len(labels), n_resamples, seed))
    return np.concatenate([f1_of_classes(labels, probs, some) for some in weights])


def resamples(n: int, n_resamples: int, seed: int) -> Iterator[Float[np.ndarray, "r n"]]:
    """How often each resample drew each image, some resamples at a time."""
    rng, batch = np.random.default_rng(seed), max(1, WEIGHTS_AT_ONCE // n)
    for start in range(0, n_resamples, batch):
        size = min(batch, n_resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def percentiles(point: float, draws: Float[np.ndarray, " r"], level: float) -> Bounds:
    """The middle `level` of the draws that are defined, widened to the point estimate."""
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(min(low, point)), float(max(high, point))


def corrected_half_width(
    values: Float[np.ndarray, " _"], judged_per_learned: float, level: float
) -> float:
    """Half of the interval of the mean of figures of fits that shared their images: Student's t with
    the variance of Nadeau and Bengio (Inference for the generalization error, Machine Learning 52,
    2003, section 5), which is the mean's plus the share n_judged / n_learned of the figures'.

    0 where the figures show no spread.
    """
    from scipy import stats  # which takes a second

    n = len(values)
    variance = float(values.var(ddof=1)) if n > 1 else 0.0
    if not variance:
        return 0.0
    quantile = float(stats.t.ppf((1 + level) / 2, n - 1))
    return quantile * float(((1 / n + judged_per_learned) * variance) ** 0.5)
