"""Drift: the chance of a false alarm is what it says, however often one looks, and what changed is
found.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, chi2_contingency, ks_2samp
from traffic import rows

from pipeline.monitor import drift


def false_alarms(n: int, *, level: float, n_window: int) -> int:
    """Of n windows from the very source of their reference; features depend on each other, and are
    full of ties.
    """
    found = 0
    for i in range(n):
        random = np.random.default_rng(i)
        both = rows(60 + n_window, i)
        both["sharpness"] = both["brightness"].round(1)
        both["ood"] = random.integers(0, 3, len(both)).astype(float)
        p = drift.p_values(both.iloc[:60], both.iloc[60:], level=level, seed=i)
        found += min(p.values()) <= level
    return found


@pytest.mark.parametrize("n_window", [20, pytest.param(90, marks=pytest.mark.slow)])
def test_false_alarms_come_no_more_often_than_the_level(n_window: int) -> None:
    assert false_alarms(100, level=0.05, n_window=n_window) <= binom.isf(1e-4, 100, 0.05)


def test_false_alarms_come_about_as_often_as_the_level_so_that_none_of_its_power_is_wasted() -> (
    None
):
    assert false_alarms(60, level=0.4, n_window=40) >= binom.ppf(1e-4, 60, 0.4 * 0.6)


CHANGES = {
    "brightness": lambda window: window.assign(brightness=window["brightness"] - 0.15),
    "sharpness": lambda window: window.assign(sharpness=window["sharpness"] * 0.4),
    "confidence": lambda window: window.assign(confidence=window["confidence"] ** 3),
    "ood": lambda window: window.assign(ood=window["ood"] + 0.5),
    "classes": lambda window: window.assign(predicted="owl"),
    "sketch": lambda window: window.assign(
        **{f"sketch_{i}": window[f"sketch_{i}"] * 1.8 for i in range(16)}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_window_of_fifty_tells_what_changed_and_what_did_not(change: str) -> None:
    p = drift.p_values(rows(300, 0), CHANGES[change](rows(50, 1)), level=0.001, seed=0)
    assert {name for name, value in p.items() if value <= 0.001} == {change}


def test_a_new_class_is_a_change_of_the_classes() -> None:
    window = rows(50, 1)
    window.loc[:9, "predicted"] = "bat"
    assert drift.p_values(rows(300, 0), window, level=0.001, seed=0)["classes"] <= 0.001


def test_statistics_are_those_of_scipy_and_of_the_definition() -> None:
    reference, window = rows(40, 0), rows(25, 1)
    reference["ood"], window["ood"] = reference["ood"].round(1), window["ood"].round(1)
    true_deal = dict(
        zip(
            drift.TESTS,
            drift._statistics(reference, window, 1, np.random.default_rng(0))[0],
            strict=True,
        )
    )
    for name in drift.NUMBERS:
        assert true_deal[name] == pytest.approx(
            ks_2samp(reference[name], window[name]).statistic, rel=1e-5
        )
    counts = pd.crosstab(pd.concat([reference, window])["predicted"], np.arange(65) < 40)
    assert true_deal["classes"] / (40 / 65 * 25 / 65) == pytest.approx(
        chi2_contingency(counts).statistic, rel=1e-5
    )
    a, b = (
        frame[[f"sketch_{i}" for i in range(16)]].to_numpy(float) for frame in (reference, window)
    )
    distance = lambda x, y: np.linalg.norm(x[:, None] - y[None], axis=2).mean()  # noqa: E731
    assert true_deal["sketch"] == pytest.approx(
        2 * distance(a, b) - distance(a, a) - distance(b, b), rel=1e-3
    )


def test_the_same_window_gets_the_same_verdict() -> None:
    reference, window = rows(100, 0), rows(50, 1)
    assert drift.p_values(reference, window, level=0.01, seed=5) == drift.p_values(
        reference, window, level=0.01, seed=5
    )


def test_features_without_any_spread_are_no_alarm() -> None:
    flat = rows(90, 0).assign(
        brightness=0.5, predicted="cat", **{f"sketch_{i}": np.float32(0) for i in range(16)}
    )
    p = drift.p_values(
        pd.DataFrame(flat.iloc[:60]), pd.DataFrame(flat.iloc[60:]), level=0.05, seed=0
    )
    assert p["brightness"] == p["classes"] == p["sketch"] == 1
