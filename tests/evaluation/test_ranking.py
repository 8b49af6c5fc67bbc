"""Curves and their areas: the same as scikit-learn's, with intervals that keep their promise."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from pipeline.evaluation import ranking

CLASSES = ["cat", "dog", "owl"]


def answers(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.choice(k, n, p=np.arange(1, k + 1) / np.arange(1, k + 1).sum())
    logits = np.eye(k)[labels] * 1.5 + random.normal(size=(n, k))
    return labels, softmax(logits, axis=1)


def test_each_class_has_the_areas_that_scikit_learn_computes() -> None:
    labels, probs = answers(200, 3, 0)
    table = ranking.table(labels, probs, CLASSES, 0.95).set_index("class")
    for c, name in enumerate(CLASSES):
        assert table.loc[name, "roc_auc"] == pytest.approx(roc_auc_score(labels == c, probs[:, c]))
        assert table.loc[name, "average_precision"] == pytest.approx(
            average_precision_score(labels == c, probs[:, c])
        )


def test_the_curve_that_is_drawn_encloses_the_area_that_is_printed() -> None:
    labels, probs = answers(200, 3, 1)
    table = ranking.table(labels, probs, CLASSES, 0.95).set_index("class")
    for name, curve in ranking.roc(labels, probs, CLASSES).groupby("class"):
        area = auc(curve["false_positive_rate"], curve["true_positive_rate"])
        assert area == pytest.approx(table.loc[name, "roc_auc"], abs=0.003)


def test_of_two_classes_the_rarer_stands_for_both() -> None:
    labels, probs = answers(100, 2, 2)
    for curves in (ranking.roc, ranking.precision_recall):
        assert curves(labels, probs, ["rare", "frequent"])["class"].unique() == ["rare"]


def test_a_class_without_images_or_without_counterexamples_has_no_curve() -> None:
    labels, probs = answers(60, 3, 3)
    assert ranking.judged(np.minimum(labels, 1), 3) == [0, 1]
    alone = np.zeros_like(labels)
    assert ranking.table(alone, probs, CLASSES, 0.95).empty
    assert [*ranking.precision_recall(alone, probs, CLASSES)] == ["class", "recall", "precision"]


def test_a_curve_of_very_many_images_has_few_points() -> None:
    labels, probs = answers(20_000, 2, 4)
    for curves in (ranking.roc, ranking.precision_recall):
        assert 100 < len(curves(labels, probs, ["a", "b"])) <= ranking.MOST_POINTS


def test_a_perfect_ranking_of_few_images_is_not_sure_to_be_perfect() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    row = ranking.table(labels, np.eye(2)[labels] * 0.8 + 0.1, ["a", "b"], 0.95).iloc[0]
    assert row["roc_auc"] == row["average_precision"] == 1
    assert 0.6 < row["roc_auc_low"] < 0.8 and 0.6 < row["average_precision_low"] < 0.8


def test_95_percent_intervals_of_the_area_cover_the_truth_95_percent_of_the_time() -> None:
    """Scores are normal, one apart: the area is then 0.7602 (Green and Swets 1966)."""
    random, covered, runs = np.random.default_rng(5), 0, 1500
    own = np.arange(200) < 60
    for _ in range(runs):
        value, deviation = ranking.area(own, random.normal(size=200) + own)
        low, high = ranking.logit_interval(value, deviation, 60, 0.95)
        covered += low <= 0.7602 <= high
    assert 0.935 <= covered / runs <= 0.965
