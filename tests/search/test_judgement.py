"""Which images judge a candidate, and what their answers say."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score
from toys import UNCHANGED, samples

from pipeline.config.schema import Bootstrap, CrossValidation
from pipeline.search import judgement
from pipeline.search.judgement import Judged
from pipeline.search.trial import Data, Outcome

OFTEN = Bootstrap(n_resamples=400, level=0.95)
TWICE = CrossValidation(below=100, folds=3, repeats=2)


def data() -> Data:
    """12 photos and 6 extra views of the first to learn from, 6 photos to judge by."""
    photos, views = samples([0, 1] * 6), samples([0, 1] * 3)
    groups = np.repeat(np.arange(6), 2).astype("u8")
    train = replace(photos, groups=groups) + replace(views, groups=groups[:6])
    val = replace(samples([0, 1] * 3), groups=np.arange(6, 12).astype("u8"))
    return Data(train, val, "none", UNCHANGED)


def places(part: Data, side: str) -> set[tuple[int, int]]:
    return {(int(a), int(b)) for a, b in getattr(part, side).place}


def test_a_validation_set_that_is_large_enough_judges_alone() -> None:
    (part,) = judgement.parts(data(), CrossValidation(below=6, folds=3, repeats=2), 0)
    assert part.val is not None and places(part, "val") == places(data(), "val")


def test_with_few_validation_images_each_photo_is_judged_once_in_each_repeat() -> None:
    parts = judgement.parts(data(), TWICE, 0)
    judged = [tuple(place) for part in parts for place in part.val.place.tolist()]
    assert len(parts) == 6
    assert sorted(judged) == sorted(
        2 * [(0, i) for i in range(12)] + 2 * [(2, i) for i in range(6)]
    )


def test_a_group_is_never_on_both_sides_and_extra_views_judge_nobody() -> None:
    for part in judgement.parts(data(), TWICE, 0):
        assert part.train.groups is not None and part.val.groups is not None
        assert not set(part.train.groups) & set(part.val.groups)
        assert 1 not in part.val.place[:, 0]
        assert not places(part, "train") & places(part, "val")


def test_a_class_of_one_group_is_learned_from_and_not_judged() -> None:
    train = samples([0, 0, 1, 1, 2], n_classes=3)
    few = Data(train, samples([0, 1], n_classes=3), "none", UNCHANGED)
    parts = judgement.parts(few, CrossValidation(below=9, folds=5, repeats=1), 0)
    assert parts and all(2 in part.train.labels and 2 not in part.val.labels for part in parts)


def of(labels: np.ndarray, predicted: np.ndarray, image: np.ndarray | None = None) -> Judged:
    probs = np.eye(3)[predicted] * 0.7 + 0.1
    return Judged(np.arange(len(labels)) if image is None else image, labels, probs)


def drawn(seed: int, n: int = 300, right: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    return labels, np.where(random.random(n) < right, labels, (labels + 1) % 3)


def test_figures_are_those_of_the_evaluation_and_lie_in_their_intervals() -> None:
    labels, predicted = drawn(0)
    figures = judgement.figures(of(labels, predicted), OFTEN, 0)
    assert figures["val/accuracy"] == pytest.approx(np.mean(labels == predicted))
    assert figures["val/f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    for metric in ("val/accuracy", "val/f1_macro", "val/log_loss"):
        assert figures[f"{metric}_low"] < figures[metric] < figures[f"{metric}_high"]


def test_repeats_of_the_same_images_do_not_narrow_the_interval() -> None:
    labels, predicted = drawn(1)
    once = judgement.figures(of(labels, predicted), OFTEN, 0)
    image = np.tile(np.arange(300), 3)
    thrice = judgement.figures(of(np.tile(labels, 3), np.tile(predicted, 3), image), OFTEN, 0)
    assert thrice == pytest.approx(once)


@pytest.mark.parametrize("metric", judgement.METRICS)
def test_a_candidate_does_not_differ_from_itself(metric: str) -> None:
    one = of(*drawn(2))
    found = judgement.difference(one, one, metric, OFTEN, 0)
    assert (found.value, found.low, found.high, found.p) == (0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize("metric", judgement.METRICS)
def test_a_difference_that_is_there_is_found_and_one_by_chance_is_not(metric: str) -> None:
    labels, good = drawn(3, right=0.9)
    bad = drawn(3, right=0.7)[1]
    assert judgement.difference(of(labels, good), of(labels, bad), metric, OFTEN, 0).p < 0.02
    swapped = good.copy()
    swapped[[0, 1]] = (labels[[0, 1]] + [0, 1]) % 3
    assert judgement.difference(of(labels, good), of(labels, swapped), metric, OFTEN, 0).p > 0.1


def test_an_image_is_known_again_in_every_fold() -> None:
    parts = judgement.parts(data(), TWICE, 0)
    rows = [np.zeros((len(part.val), 2), np.float32) for part in parts]
    outcomes = [Outcome("complete", "", [], logits, 0.0) for logits in rows]
    judged = judgement.judged(outcomes, parts)
    assert len(judged.image) == 36
    assert judged.image.max() + 1 == 18
