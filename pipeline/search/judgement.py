"""What candidates are judged by: images that they did not learn from, the same for all.

Axes: n predictions, i images, k classes, r rows. Of a single split n = i; of repeated cross-validation
each image is predicted once in each repeat.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import softmax

from pipeline.config.schema import Bootstrap, CrossValidation
from pipeline.evaluation import intervals
from pipeline.evaluation.statistics import Statistic, statistic
from pipeline.search.trial import Data, Outcome
from pipeline.training.folds import Rows, grouped
from pipeline.training.samples import Samples

METRICS = ("accuracy", "f1_macro", "log_loss")


@dataclass(frozen=True)
class Judged:
    """Predictions of a candidate; `image` says of which image each of them is."""

    image: Int64[np.ndarray, " n"]
    labels: Int64[np.ndarray, " n"]
    probs: Float64[np.ndarray, "n k"]

    @property
    def n_images(self) -> int:
        return int(self.image.max()) + 1


@dataclass(frozen=True)
class Difference:
    """One candidate's figure less the other's on the same images: its interval, and the chance of
    one so large between equals.
    """

    value: float
    low: float
    high: float
    p: float


def parts(data: Data, settings: CrossValidation, seed: int) -> list[Data]:
    """What a candidate learns from and is judged by: train and val as they are, or where val has
    fewer images than settings.below, every fold of train and val together.

    Images of one group share a fold. Views that augment stored are only learned from.
    """
    if len(data.val) >= settings.below:
        return [data]
    dealt = [
        fold
        for repeat in range(settings.repeats)
        for fold in _folds(data.train + data.val, len(data.train), settings.folds, seed + repeat)
    ]
    whole = data.train + data.val
    return [
        replace(data, train=whole.take(learned), val=whole.take(held_out))
        for learned, held_out in dealt
    ] or [data]


def judged(outcomes: Sequence[Outcome], parts: Sequence[Data]) -> Judged:
    """The predictions of complete trials, one for each of the parts."""
    logits = [outcome.val_logits for outcome in outcomes if outcome.val_logits is not None]
    places = np.concatenate([part.val.place for part in parts])
    labels = np.concatenate([part.val.labels for part in parts])
    probs = softmax(np.concatenate(logits).astype(np.float64), axis=1)
    image = np.unique(places, axis=0, return_inverse=True)[1].reshape(-1)
    return Judged(image.astype(np.int64), labels, probs)


def figures(judged: Judged, settings: Bootstrap, seed: int) -> dict[str, float]:
    """val/METRIC of each metric, with the ends of its interval as val/METRIC_low and _high."""
    statistics = {metric: _statistic(metric, judged) for metric in METRICS}
    drawn = intervals.draws(statistics, judged.n_images, settings.n_resamples, seed)
    result: dict[str, float] = {}
    for metric, values in drawn.items():
        low, high = intervals.interval(values, settings.level)
        name = f"val/{metric}"
        result |= {name: float(values[0]), f"{name}_low": low, f"{name}_high": high}
    return result


def difference(
    one: Judged, other: Judged, metric: str, settings: Bootstrap, seed: int
) -> Difference:
    """By a paired bootstrap over images; p is two-sided. It knows nothing of the chance in training."""
    both = {"one": _statistic(metric, one), "other": _statistic(metric, other)}
    drawn = intervals.draws(both, one.n_images, settings.n_resamples, seed)
    apart = drawn["one"] - drawn["other"]
    low, high = intervals.interval(apart, settings.level)
    rarer = min((apart[1:] <= 0).sum(), (apart[1:] >= 0).sum())
    return Difference(float(apart[0]), low, high, min(1.0, 2 * (1 + rarer) / len(apart)))


def _statistic(metric: str, judged: Judged) -> Statistic:
    """The metric from how often each image counts; the predictions of an image share that."""
    of_predictions = statistic(metric, judged.labels, judged.probs)
    share = 1 / np.bincount(judged.image)[judged.image]
    return lambda weights: of_predictions(weights[:, judged.image] * share)


def _folds(whole: Samples, n_train: int, n_folds: int, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Rows to learn from and rows to judge; those of arrays beyond the first of train, which hold
    augment's views, are only learned from.
    """
    everyone = np.arange(len(whole))
    photos = (whole.place[:, 0] == 0) | (everyone >= n_train)
    groups = everyone if whole.groups is None else whole.groups
    yield from grouped(whole.labels, groups, photos, n_folds, seed)
