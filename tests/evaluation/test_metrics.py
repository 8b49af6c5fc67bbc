"""Metrics agree with scikit-learn, with cases worked by hand, and with what must always hold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from pipeline import FieldmarkError
from pipeline.evaluation import headline, intervals, metrics

BOOTSTRAPPED = ["accuracy", "top3_accuracy", *headline.RESAMPLED]
quick = settings(max_examples=20)


def predictions(n: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(k, size=n), rng.dirichlet(np.full(k, 0.5), size=n)


wild = st.builds(
    predictions, n=st.integers(1, 30), k=st.integers(2, 6), seed=st.integers(0, 10_000)
)


def test_summary_agrees_with_scikit_learn():
    labels, probs = predictions(200, 4, seed=0)
    predicted = probs.argmax(axis=1)
    figures = metrics.summary(labels, probs)
    assert figures == pytest.approx(
        {
            "accuracy": reference.accuracy_score(labels, predicted),
            "f1_macro": reference.f1_score(labels, predicted, average="macro"),
            "f1_weighted": reference.f1_score(labels, predicted, average="weighted"),
            "mcc": reference.matthews_corrcoef(labels, predicted),
            "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
            "log_loss": reference.log_loss(labels, probs),
            "brier": np.square(probs - np.eye(4)[labels]).sum(axis=1).mean(),
            "ece": figures["ece"],
            "top3_accuracy": reference.top_k_accuracy_score(labels, probs, k=3),
            "roc_auc": reference.roc_auc_score(labels, probs, multi_class="ovr"),
        }
    )


def test_ece_of_a_case_worked_by_hand():
    """Two images at 0.9, one of them right; two at 0.6, both right: (2 * |0.9 - 0.5| + 2 * |0.6 -
    1|) / 4.
    """
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    assert metrics.summary(np.array([0, 1, 0, 0]), probs)["ece"] == pytest.approx(0.4)


def test_a_sure_and_right_model_has_perfect_figures():
    figures = metrics.summary(np.array([0, 1, 2, 3]), np.eye(4))
    assert figures == pytest.approx(
        {name: float(name not in {"log_loss", "brier", "ece"}) for name in figures}, abs=1e-12
    )


def test_classes_absent_from_the_test_images_do_not_lower_the_averages():
    figures = metrics.summary(np.array([0, 1]), np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]))
    assert (figures["f1_macro"], figures["balanced_accuracy"], figures["roc_auc"]) == (1, 1, 1)


def test_roc_auc_and_top3_are_left_out_where_they_say_nothing():
    assert (
        metrics.summary(np.array([0, 0]), np.full((2, 2), 0.5))
        .keys()
        .isdisjoint({"roc_auc", "top3_accuracy"})
    )


def test_single_precision_probabilities_are_welcome():
    labels, probs = predictions(50, 3, seed=1)
    single = metrics.summary(labels, probs.astype(np.float32))
    assert single == pytest.approx(metrics.summary(labels, probs), abs=1e-5)


@quick
@given(wild)
def test_figures_stay_in_their_range(case):
    figures = metrics.summary(*case)
    bounded = [figures[name] for name in {*figures} - {"log_loss", "brier", "mcc"}]
    assert -1 - 1e-12 <= figures["mcc"] <= 1 + 1e-12
    assert all(0 <= value <= 1 + 1e-12 for value in bounded)
    assert 0 <= figures["brier"] <= 2
    assert figures["log_loss"] >= 0
    assert figures.get("top3_accuracy", 1) >= figures["accuracy"]


@quick
@given(wild, st.integers(1, 20))
def test_reliability_bins_hold_every_image_once(case, n_bins):
    table = metrics.reliability(*case, n_bins)
    filled = table[table["n"] > 0]
    assert table["n"].sum() == len(case[0])
    assert filled["confidence"].between(filled["low"] - 1e-12, filled["high"] + 1e-12).all()


@quick
@given(wild)
def test_ece_is_the_weighted_gap_of_the_reliability_bins(case):
    table = metrics.reliability(*case, metrics.ECE_BINS).dropna()
    gap = (table["n"] * (table["confidence"] - table["accuracy"]).abs()).sum() / table["n"].sum()
    assert metrics.summary(*case)["ece"] == pytest.approx(gap)


@quick
@given(wild)
def test_confusion_holds_as_many_hits_as_the_accuracy_says(case):
    labels, probs = case
    table = metrics.confusion(labels, probs, [f"class {i}" for i in range(probs.shape[1])])
    assert np.mean(table["actual"] == table["predicted"]) == pytest.approx(
        metrics.summary(labels, probs)["accuracy"]
    )


def test_per_class_names_the_class_that_takes_the_images():
    probs = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.1, 0.9, 0.0]])
    table = metrics.per_class(np.array([0, 0, 1]), probs, ["cat", "dog", "owl"])
    expected = pd.DataFrame(
        {
            "class": ["cat", "dog", "owl"],
            "n": [2, 1, 0],
            "precision": [1, 0.5, np.nan],
            "recall": [0.5, 1, np.nan],
            "f1": [2 / 3, 2 / 3, np.nan],
            "most_confused_with": ["dog", "", ""],
        }
    )
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)


def test_risk_coverage_answers_the_surest_images_first():
    probs = np.array([[0.6, 0.4], [0.9, 0.1], [0.6, 0.4], [0.8, 0.2]])
    curve = metrics.risk_coverage(np.array([1, 0, 0, 0]), probs)
    expected = pd.DataFrame(
        {"threshold": [0.9, 0.8, 0.6], "coverage": [0.25, 0.5, 1], "risk": [0, 0, 0.25]}
    )
    pd.testing.assert_frame_equal(curve, expected)


@quick
@given(wild)
def test_risk_at_full_coverage_is_the_error(case):
    curve = metrics.risk_coverage(*case)
    assert curve["coverage"].is_monotonic_increasing
    assert curve["risk"].iloc[-1] == pytest.approx(1 - metrics.summary(*case)["accuracy"])


@quick
@given(wild, st.floats(0.5, 0.99))
def test_intervals_contain_the_point_estimate(case, level):
    figures = metrics.summary(*case)
    names = [name for name in BOOTSTRAPPED if name in figures]
    bounds = intervals.bootstrap(*case, metrics=names, n_resamples=50, level=level, seed=0)
    assert all(
        bounds[name][0] - 1e-12 <= figures[name] <= bounds[name][1] + 1e-12 for name in names
    )


def test_interval_of_the_accuracy_agrees_with_the_normal_approximation():
    labels = np.zeros(900, dtype=np.int64)
    probs = np.where(np.arange(900)[:, None] < 720, [0.9, 0.1], [0.1, 0.9])
    low, high = intervals.bootstrap(
        labels, probs, metrics=["accuracy"], n_resamples=2000, level=0.95, seed=0
    )["accuracy"]
    half = 1.96 * np.sqrt(0.8 * 0.2 / 900)
    assert (low, high) == pytest.approx((0.8 - half, 0.8 + half), abs=0.004)


@pytest.mark.parametrize("metric", BOOTSTRAPPED)
def test_a_resample_scores_what_summary_scores_on_the_drawn_images(metric):
    labels, probs = predictions(12, 5, seed=3)
    drawn = np.random.default_rng(0).integers(12, size=(1, 12))[0]
    bounds = intervals.bootstrap(labels, probs, metrics=[metric], n_resamples=1, level=0.9, seed=0)[
        metric
    ]
    # One end of the interval is the only resample, the other the point estimate.
    distance = np.subtract(bounds, metrics.summary(labels[drawn], probs[drawn])[metric])
    assert np.abs(distance).min() < 1e-12


def test_intervals_do_not_depend_on_how_many_resamples_fit_in_memory(monkeypatch):
    case = predictions(20, 3, seed=4)
    how = {"metrics": ["accuracy", "ece"], "n_resamples": 30, "level": 0.9, "seed": 7}
    at_once = intervals.bootstrap(*case, **how)
    monkeypatch.setattr(intervals, "WEIGHTS_AT_ONCE", 100)
    assert intervals.bootstrap(*case, **how) == at_once


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match="accuracy_squared"):
        intervals.bootstrap(
            *predictions(5, 3, seed=0),
            metrics=["accuracy_squared"],
            n_resamples=5,
            level=0.9,
            seed=0,
        )


def test_no_images_is_said_in_plain_words():
    with pytest.raises(FieldmarkError, match="no labelled image"):
        metrics.summary(np.array([], dtype=np.int64), np.zeros((0, 3)))


@pytest.mark.parametrize(
    ("labels", "probs"),
    [
        ([2], [[0.5, 0.5]]),
        ([-1], [[0.5, 0.5]]),
        ([0], [[0.9, 0.9]]),
        ([0], [[np.nan, 1.0]]),
        ([0], [[1.5, -0.5]]),
    ],
)
def test_nonsense_is_refused(labels, probs):
    with pytest.raises(ValueError, match="must"):
        metrics.summary(np.array(labels), np.array(probs))
