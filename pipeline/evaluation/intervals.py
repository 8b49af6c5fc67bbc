"""Intervals of a model's figures, by bootstrap over the test images.

Axes: n images, k classes, r resamples, c columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

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
    the bias of ece. Takes accuracy, f1_macro, log_loss and ece; raises ValueError for another metric.
    """
    probs = checked(labels, probs)
    statistics = {metric: statistic(metric, labels, probs) for metric in metrics}
    drawn = draws(statistics, n_resamples, seed)
    return {metric: interval(values, level) for metric, values in drawn.items()}


def draws(
    statistics: Mapping[str, tuple[Columns, Reduce]], n_resamples: int, seed: int
) -> dict[str, Float[np.ndarray, " _"]]:
    """Each figure on all images, and then on every resample of them; the same resamples for all.

    statistics: of the same images, as `metrics.statistic` returns them.
    """
    n = len(next(iter(statistics.values()))[0])
    weights = chain([np.ones((1, n))], _resamples(n, n_resamples, np.random.default_rng(seed)))
    parts = [{name: _of(each, some) for name, each in statistics.items()} for some in weights]
    return {name: np.concatenate([part[name] for part in parts]) for name in statistics}


def interval(drawn: Float[np.ndarray, " _"], level: float) -> tuple[float, float]:
    """The percentiles of one figure of `draws`."""
    return _percentiles(float(drawn[0]), drawn[1:], level)


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
