"""Repeated cross-validation of the recipe that made the model: where test images are few, all images
judge it.

Each network is made as tune makes the one that goes on, its temperature from validation images of its
own. The settings were chosen by some of these images, which flatters a little; the test images alone
had no part in that. What a network answers is kept by the memo. Axes: n images, k classes.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64, UInt64

from pipeline.config.schema import CrossValidation, Evaluate
from pipeline.evaluation import crossval
from pipeline.evaluation.crossval import CrossValidated, Fold
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.measuring import Answers
from pipeline.storage import memo
from pipeline.training import folds, network, refit, samples
from pipeline.training.folds import Rows
from pipeline.training.refit import Recipe
from pipeline.training.samples import Samples

VAL_FOLDS = 5  # one of them gives the temperature, as of a split of 60, 15 and 25 %


def measured(
    test: Answers,
    recipe: Recipe,
    settings: Evaluate,
    preprocess_dev: Path,
    augment: Path,
) -> tuple[Figures, CrossValidated | None]:
    """The figures of evaluation/crossval, and what was done or why it was not; None where there are
    enough test images, or the settings ask for nothing.
    """
    asked = settings.cross_validation
    if asked is None or len(test.rows) >= asked.below:
        return {}, None
    if why := _impossible(test, recipe):
        return {}, CrossValidated(not_measured=why)
    assert isinstance(test.images, Samples)
    photos = samples.load(preprocess_dev, test.classes) + test.images
    images = photos + samples.load(augment / "extra", test.classes)
    judged = judge(images, np.arange(len(images)) < len(photos), recipe, asked)
    if not judged:
        few = f"fewer than two classes have {asked.folds} groups of photos, one for each fold"
        return {}, CrossValidated(not_measured=few)
    return crossval.figures(images.labels, judged, settings.bootstrap.level), crossval.summary(
        judged
    )


def judge(
    images: Samples, photos: Bool[np.ndarray, " n"], recipe: Recipe, settings: CrossValidation
) -> list[Fold]:
    """Every fold of every repeat, each with a seed of its own; none where they cannot be dealt.

    photos: those that judge; the others, views that augment stored, are only learned from. Images of
    one group share a fold.
    """
    everyone = np.arange(len(images), dtype=np.int64)
    groups = everyone if images.groups is None else images.groups
    result = []
    for repeat in range(settings.repeats):
        again = recipe._replace(seed=recipe.seed + repeat)
        strata = _strata(images.labels, groups, photos, settings.folds)
        dealt = folds.grouped(strata, groups, photos, settings.folds, again.seed)
        for learned, held_out in dealt:
            parts = _train_and_val(images, groups, photos, learned, again.seed)
            if parts is None:
                return []
            probs = _answers(*parts, images.take(held_out), again)
            result.append(Fold(repeat, held_out, probs, int(photos[learned].sum())))
    return result


def _impossible(test: Answers, recipe: Recipe) -> str:
    if (test.rows["given_split"] != "").any():
        return (
            "the photos came with a split, whose test images may stand for another place or time "
            "than the others"
        )
    members = recipe.best.members or [recipe.best]
    if any(not each.frozen or each.trained_stages for each in members):
        return "a network that is not frozen would have to be trained anew for each fold"
    return ""


def _strata(
    labels: Int64[np.ndarray, " n"],
    groups: UInt64[np.ndarray, " n"] | Int64[np.ndarray, " n"],
    photos: Bool[np.ndarray, " n"],
    n_folds: int,
) -> Int64[np.ndarray, " n"]:
    """The classes as they are dealt: those with fewer groups than folds are one with the next larger,
    so that every photo is judged.
    """
    of_class = {int(k): np.unique(groups[photos & (labels == k)]) for k in np.unique(labels)}
    joined: list[int] = []
    for k in sorted(of_class, key=lambda k: (len(of_class[k]), k)):
        together = {group for few in joined for group in of_class[few].tolist()}
        if len(of_class[k]) >= n_folds and (not joined or len(together) >= n_folds):
            break
        joined.append(k)
    return np.where(np.isin(labels, joined), -1, labels)


def _train_and_val(
    images: Samples, groups: np.ndarray, photos: np.ndarray, learned: Rows, seed: int
) -> tuple[Samples, Samples] | None:
    """Some of the photos of classes with enough groups give the temperature."""
    labels, own = images.labels[learned], groups[learned]
    n_groups = {k: len(np.unique(own[labels == k])) for k in np.unique(labels)}
    enough = np.array([n_groups[k] >= VAL_FOLDS for k in labels])
    dealt: Iterator[tuple[Rows, Rows]] = folds.grouped(
        labels, own, photos[learned] & enough, VAL_FOLDS, seed
    )
    for train, val in dealt:
        return images.take(learned[train]), images.take(learned[val])
    return None


def _answers(train: Samples, val: Samples, held_out: Samples, recipe: Recipe) -> np.ndarray:
    content = [*train.content(), *val.content(), held_out.keys()]
    libraries = ["torch", "scikit-learn"]
    key = memo.key(recipe.asked(), *content, code=[__name__], libraries=libraries)
    return memo.array(
        "crossval",
        key,
        lambda: network.probabilities(refit.anew(recipe, train, val)[0], held_out),
    )
