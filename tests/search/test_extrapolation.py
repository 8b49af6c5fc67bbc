"""A learning curve is continued as it began, with an interval that holds what comes."""

import numpy as np
import pytest

from pipeline.search import extrapolation

SIZES = np.array([50.0, 100, 200, 400])
LATER = np.array([800.0, 1600])


def law(n: np.ndarray, a: float = 0.95, b: float = 1.5, c: float = 0.5) -> np.ndarray:
    return a - b * n**-c


def measured(seed: int, noise: float, n_resamples: int = 400) -> extrapolation.Curve:
    """Three draws of each size; a resample of images moves the whole curve."""
    random = np.random.default_rng(seed)
    shift = np.concatenate([[0.0], random.normal(0, noise, n_resamples)])
    return [
        value + shift + random.normal(0, noise, (3, 1))
        for value in np.round(law(SIZES), 12).tolist()
    ]


def test_without_noise_the_law_itself_comes_back() -> None:
    exact = [np.full((2, 1), value) for value in law(SIZES)]
    found = extrapolation.forecast(SIZES, exact, LATER, 0)[:, 0]
    assert found == pytest.approx(law(LATER), abs=1e-6)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    held = []
    for seed in range(60):
        drawn = extrapolation.forecast(SIZES, measured(seed, 0.01), LATER, seed)[:, 1:]
        low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
        held.append((low <= law(LATER)) & (law(LATER) <= high))
    assert 0.85 <= np.mean(held) <= 1.0


def test_the_interval_grows_with_the_noise_and_with_the_distance() -> None:
    def width(noise: float) -> np.ndarray:
        drawn = extrapolation.forecast(SIZES, measured(0, noise), LATER, 0)
        return np.ptp(np.quantile(drawn, [0.025, 0.975], axis=1), axis=0)

    assert (width(0.02) > width(0.005)).all()
    assert width(0.01)[1] > width(0.01)[0]


def test_no_forecast_exceeds_one_and_more_photos_never_harm() -> None:
    rising = [np.full((1, 1), value) for value in (0.7, 0.85, 0.95, 0.999)]
    assert (extrapolation.forecast(SIZES, rising, LATER, 0) <= 1).all()
    falling = [np.full((1, 1), value) for value in (0.9, 0.8, 0.85, 0.8)]
    found = extrapolation.forecast(SIZES, falling, LATER, 0)[:, 0]
    assert found[0] == pytest.approx(found[1])
