"""Calibration errors are zero for a calibrated model, as far as chance allows, and only for it."""

import numpy as np
import pytest
from scipy.special import softmax

from pipeline.config.schema import Bootstrap
from pipeline.evaluation import calibration, headline

BOOTSTRAP = Bootstrap(n_resamples=200, level=0.9)


def calibrated(n: int, seed: int, k: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are drawn from the probabilities themselves."""
    random = np.random.default_rng(seed)
    probs = softmax(2 * random.normal(size=(n, k)), axis=1)
    labels = (random.random(n)[:, None] > probs.cumsum(axis=1)).sum(axis=1)
    return np.minimum(labels, k - 1), probs


def too_sure(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    labels, probs = calibrated(n, seed)
    return labels, softmax(3 * np.log(probs), axis=1)


def test_the_debiased_error_of_a_calibrated_model_includes_zero_where_the_plain_one_does_not():
    of_calibrated = [
        calibration.figures(*calibrated(300, seed), BOOTSTRAP, seed=0) for seed in range(12)
    ]
    assert np.mean([each["classwise_rmse"].low == 0 for each in of_calibrated]) >= 0.9
    assert all(each["classwise_ece"].value > 0.02 for each in of_calibrated)
    assert np.mean([each["classwise_rmse"].value for each in of_calibrated]) < 0.05


def test_the_squared_error_is_unbiased_over_repetitions():
    everyone, runs = np.ones((1, 300)), range(300)
    squares = []
    for seed in runs:
        labels, probs = calibrated(300, seed)
        squares.append(calibration._gaps(labels, probs, calibration._bins(probs), everyone).squared)
    assert abs(np.mean(squares)) < 3 * np.std(squares) / np.sqrt(len(squares)) + 2e-4


def test_a_model_that_is_too_sure_is_worse_than_chance_explains():
    labels, probs = too_sure(600, seed=0)
    figures = calibration.figures(labels, probs, BOOTSTRAP, seed=0)
    low = figures["classwise_rmse"].low
    assert low is not None and low > 0.05


@pytest.mark.parametrize("n", [100, 600])
def test_the_ece_of_a_calibrated_model_stays_below_what_chance_explains(n: int):
    from pipeline.evaluation import metrics

    below = []
    for seed in range(60):
        labels, probs = calibrated(n, seed)
        limit = np.quantile(calibration._simulated(probs, seed), 0.95)
        below.append(metrics.summary(labels, probs)["ece"] <= limit)
    assert np.mean(below) >= 0.88


def test_the_temperature_is_undone_exactly():
    logits = np.random.default_rng(0).normal(size=(20, 4)) * 5
    plain = calibration.uncalibrated(softmax(logits / 1.7, axis=1), 1.7)
    assert plain == pytest.approx(softmax(logits, axis=1))


def test_a_temperature_that_helps_lowers_every_figure():
    labels, probs = calibrated(500, seed=3)
    after = headline.figures(labels, probs, BOOTSTRAP, seed=0)
    table = calibration.before_and_after(after, labels, probs, 3.0, BOOTSTRAP, seed=0)
    assert (table["after"] < table["before"]).all()
    assert (table["after_low"] <= table["after"]).all()
    assert (table["after"] <= table["after_high"]).all()


def test_one_bin_worked_by_hand():
    """Two classes, all at 0.8 and 0.2, right three times of four: a gap of 0.05 in both, and
    0.05 squared less 0.75 * 0.25 / 3.
    """
    probs, labels = np.tile([0.8, 0.2], (4, 1)), np.array([0, 0, 0, 1])
    gaps = calibration._gaps(labels, probs, calibration._bins(probs), np.ones((1, 4)))
    assert gaps.ece[0] == pytest.approx(0.05)
    assert gaps.squared[0] == pytest.approx(0.05**2 - 0.75 * 0.25 / 3)
