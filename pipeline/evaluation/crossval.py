"""What repeated cross-validation says of a recipe: all images judge it, where few test images could.

training/crossval makes the answers. Axes: n images, j images of a fold, k classes.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64, Int64
from pydantic import BaseModel, ConfigDict

from pipeline.evaluation import intervals, metrics
from pipeline.evaluation.figures import Figure, Figures
from pipeline.evaluation.proportions import wilson

PREFIX = "cross_validation"
MEASURED = {
    "accuracy": "the share of images whose likeliest class is their label",
    "f1_macro": "mean F1 of the classes",
    "ece": "mean distance of confidence and accuracy over 15 bins",
}


class Fold(NamedTuple):
    """Which images judged a fit, its probabilities of them, and how many images it had learned from."""

    repeat: int
    images: Int64[np.ndarray, " j"]
    probs: Float64[np.ndarray, "j k"]
    n_learned: int


class CrossValidated(BaseModel):
    """What was done; not_measured: why nothing was, or ""."""

    model_config = ConfigDict(frozen=True)

    n: int = 0
    folds: int = 0
    repeats: int = 0
    not_measured: str = ""


def summary(folds: Sequence[Fold]) -> CrossValidated:
    """Of folds that judge the same images in each repeat."""
    n_repeats = len({fold.repeat for fold in folds})
    n = sum(len(fold.images) for fold in folds) // n_repeats
    return CrossValidated(n=n, folds=len(folds) // n_repeats, repeats=n_repeats)


def figures(labels: Int64[np.ndarray, " n"], folds: Sequence[Fold], level: float) -> Figures:
    """cross_validation/NAME: each figure over all answers of a repeat, on average over the repeats.

    The interval comes from the figures of single folds (intervals.corrected_half_width): of F1 and
    ECE, which are no means over images, it is an approximation. That of the accuracy is never
    narrower than Wilson's for so many images that one model is judged by.
    """
    done = summary(folds)
    repeats = [_summary(labels, list(each)) for _, each in groupby(folds, lambda fold: fold.repeat)]
    single = [_summary(labels, [fold]) for fold in folds]
    ratio = sum(len(fold.images) for fold in folds) / sum(fold.n_learned for fold in folds)
    how = (
        f"{done.folds}-fold cross-validation with {done.repeats} repeats, groups kept together; {level:.0%} "
        f"interval by the corrected resampled t (Nadeau and Bengio 2003)"
    )
    result = {}
    for name, meaning in MEASURED.items():
        value = float(np.mean([each[name] for each in repeats]))
        values = np.array([each[name] for each in single])
        half = intervals.corrected_half_width(values, ratio, level)
        low, high = max(value - half, 0.0), min(value + half, 1.0)
        if name == "accuracy":
            ends = wilson(round(value * done.n), done.n, level)
            low, high = min(low, ends[0]), max(high, ends[1])
        result[f"{PREFIX}/{name}"] = Figure(
            value=value,
            n=done.n,
            method=how,
            meaning=f"{meaning}, of models of the same settings that had not learned from them",
            low=low,
            high=high,
        )
    return result


def _summary(labels: Int64[np.ndarray, " n"], folds: Sequence[Fold]) -> dict[str, float]:
    images = np.concatenate([fold.images for fold in folds])
    return metrics.summary(labels[images], np.concatenate([fold.probs for fold in folds]))
