"""Smoothing takes the flicker out of a film with known content, for a delay that is stated."""

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.smoothing import Trailing, figures, smoothed

RATE, SCENE_S, WINDOW_S = 10, 6.0, 1.0


def film(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ten scenes of two classes in turn at ten frames a second: truth, noisy answers, times."""
    random = np.random.default_rng(seed)
    at = np.arange(int(10 * SCENE_S * RATE)) / RATE
    truth = (at // SCENE_S).astype(int) % 2
    own = np.clip(random.normal(0.62, 0.25, len(at)), 0.01, 0.99)
    one = np.where(truth == 1, own, 1 - own)
    return truth, np.stack([1 - one, one], axis=1), at


def test_a_film_with_known_content_is_right_more_often_and_flickers_less() -> None:
    truth, probs, at = film(0)
    calm = smoothed(probs, ["film"] * len(at), at.tolist(), WINDOW_S).argmax(axis=1)
    plain = probs.argmax(axis=1)
    assert (calm == truth).mean() > (plain == truth).mean() + 0.08
    assert np.abs(np.diff(calm)).sum() < 0.25 * np.abs(np.diff(plain)).sum()


def test_after_a_change_of_scene_the_new_class_wins_about_half_a_window_later() -> None:
    at = np.arange(0, 8, 1 / RATE)
    truth = (at >= 4).astype(int)
    probs = np.where(truth[:, None] == [0, 1], 0.9, 0.1)
    calm = smoothed(probs, ["film"] * len(at), at.tolist(), WINDOW_S).argmax(axis=1)
    delay = at[(calm == 1) & (at >= 4)][0] - 4
    assert 0.4 * WINDOW_S <= delay <= 0.6 * WINDOW_S
    assert (calm[at < 4] == 0).all()


def test_frame_by_frame_gives_what_the_whole_film_gives_whatever_its_order() -> None:
    _, probs, at = film(1)
    trailing = Trailing(WINDOW_S)
    one_by_one = np.array([trailing(each, "a", t) for each, t in zip(probs, at, strict=True)])
    order = np.random.default_rng(2).permutation(len(at))
    shuffled = smoothed(probs[order], ["a"] * len(at), at[order].tolist(), WINDOW_S)
    np.testing.assert_allclose(shuffled, one_by_one[order])


def test_films_do_not_run_into_each_other_and_a_step_back_begins_anew() -> None:
    trailing, sure, other = Trailing(10.0), np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert trailing(sure, "a", 0.0).tolist() == [1, 0]
    assert trailing(other, "b", 1.0).tolist() == [0, 1]
    assert trailing(sure, "b", 2.0) == pytest.approx([0.5, 0.5])
    assert trailing(sure, "b", 0.5).tolist() == [1, 0]


def test_the_report_measures_the_frames_that_belong_to_a_film() -> None:
    truth, probs, at = film(4)
    rows = pd.DataFrame(
        {"group": "film", "metadata": [f'{{"seconds": {second:.1f}}}' for second in at]}
    )
    rows.loc[0, "metadata"] = "{}"
    figure = figures(rows, truth, probs, WINDOW_S)["accuracy_smoothed"]
    assert figure.n == len(at) - 1
    assert figure.value > (probs.argmax(axis=1) == truth).mean() + 0.08
    assert figures(rows, truth, probs, 0.0) == figures(rows[:1], truth[:1], probs[:1], 1.0) == {}


def test_a_window_of_nothing_changes_nothing() -> None:
    _, probs, at = film(3)
    np.testing.assert_array_equal(smoothed(probs, ["a"] * len(at), at.tolist(), 0.0), probs)
