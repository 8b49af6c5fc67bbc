"""The figures of repeated cross-validation, and how wide their intervals are."""

import numpy as np
import pytest

from pipeline.evaluation import crossval
from pipeline.evaluation.crossval import Fold
from pipeline.evaluation.metrics import summary
from pipeline.evaluation.proportions import wilson


def folds(probs: np.ndarray, n_folds: int, n_repeats: int, seed: int) -> list[Fold]:
    """Each image is judged once in each repeat, always by the same answer."""
    random, n = np.random.default_rng(seed), len(probs)
    return [
        Fold(repeat, images, probs[images], n - len(images))
        for repeat in range(n_repeats)
        for images in np.array_split(random.permutation(n), n_folds)
    ]


def drawn(n: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, n)
    answers = np.where(random.random(n) < right, labels, (labels + 1) % 3)
    return labels, np.eye(3)[answers] * 0.7 + 0.1


def test_a_figure_is_that_of_all_answers_of_a_repeat() -> None:
    """ECE and F1 of single folds, of few images, would be biased."""
    labels, probs = drawn(120, 0.8, 0)
    figures = crossval.figures(labels, folds(probs, 4, 2, 0), 0.95)
    whole = summary(labels, probs)
    assert {name: figures[f"cross_validation/{name}"].value for name in crossval.MEASURED} == (
        pytest.approx({name: whole[name] for name in crossval.MEASURED})
    )
    for figure in figures.values():
        assert figure.low is not None and figure.high is not None
        assert 0 <= figure.low < figure.value < figure.high <= 1
        assert figure.n == 120


def test_no_interval_is_narrower_than_one_model_on_so_many_images_would_have() -> None:
    labels = np.arange(40) % 3
    figure = crossval.figures(labels, folds(np.eye(3)[labels], 4, 2, 0), 0.95)
    accuracy = figure["cross_validation/accuracy"]
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(40, 40, 0.95))


def test_the_interval_holds_the_truth_at_least_as_often_as_it_says() -> None:
    held = 0
    for seed in range(24):
        labels, probs = drawn(120, 0.85, seed)
        accuracy = crossval.figures(labels, folds(probs, 4, 2, seed), 0.95)[
            "cross_validation/accuracy"
        ]
        assert accuracy.low is not None and accuracy.high is not None
        held += accuracy.low <= 0.85 <= accuracy.high
    assert held >= 23
