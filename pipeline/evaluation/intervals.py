"""Intervals of a model's figures, by bootstrap over the test images.

Axes: n images, k classes, r resamples, c columns.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from pipeline.evaluation.metrics import Columns, Labels, Probs, Reduce, checked, statistic

# Bounds the memory: weights of at most this many numbers are held at once.
WEIGHTS_AT_ONCE = 4_000_000


def bootstrap(
    labels: Labels,
    probs: Probs,
    *,
    metrics: Sequence[str],
    n_resamples: int,
    level: float,
    seed: int,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap over images (Efron 1979), with the same resamples for all metrics.

    An interval is widened to the point estimate where the percentiles miss it: resampling adds to
    the bias of ece. Takes accuracy, f1_macro and ece; raises ValueError for another metric.
    """
    probs = checked(labels, probs)
    statistics = {metric: statistic(metric, labels, probs) for metric in metrics}
    everyone = np.ones((1, len(labels)))
    draws = {metric: [_of(function, everyone)] for metric, function in statistics.items()}
    for weights in _resamples(len(labels), n_resamples, np.random.default_rng(seed)):
        for metric, function in statistics.items():
            draws[metric].append(_of(function, weights))
    return {
        metric: _percentiles(parts[0][0], np.concatenate(parts[1:]), level)
        for metric, parts in draws.items()
    }


def _of(
    function: tuple[Columns, Reduce], weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, " r"]:
    columns, reduce = function
    return reduce(weights @ columns / len(columns))


def _resamples(
    n: int, n_resamples: int, rng: np.random.Generator
) -> Iterator[Float[np.ndarray, "r n"]]:
    """How often each resample drew each image, some resamples at a time."""
    batch = max(1, WEIGHTS_AT_ONCE // n)
    for start in range(0, n_resamples, batch):
        size = min(batch, n_resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def _percentiles(point: float, draws: Float[np.ndarray, " r"], level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(min(low, point)), float(max(high, point))
