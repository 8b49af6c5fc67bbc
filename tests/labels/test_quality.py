"""Quality: each figure says what its name says, and each limit finds its images."""

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import UInt8

from pipeline.labels.quality import problems, scores

LIMITS = {
    "dark": 0.1,
    "bright": 0.95,
    "blur": 20.0,
    "low_information": 2.0,
    "odd_size": 10.0,
    "odd_aspect": 3.0,
}
FINE = {
    "dark": 0.9,
    "bright": 0.1,
    "blur": 100.0,
    "low_information": 6.0,
    "width": 100,
    "height": 100,
}


def flat(level: int) -> UInt8[np.ndarray, "h w 3"]:
    return np.full((30, 40, 3), level, np.uint8)


def noise(size: int) -> UInt8[np.ndarray, "h w 3"]:
    return np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)


@pytest.mark.parametrize("level", [0, 51, 255])
def test_a_flat_image_has_its_level_and_nothing_else(level: int) -> None:
    expected = {"dark": level / 255, "bright": level / 255, "brightness": level / 255}
    nothing = {"contrast": 0.0, "blur": 0.0, "low_information": 0.0}
    assert scores(flat(level)) == pytest.approx(expected | nothing)


def test_half_black_half_white_has_the_greatest_contrast_and_one_bit() -> None:
    figures = scores(
        np.repeat(np.array([0, 255], np.uint8), 50)[None, :, None].repeat(20, 0).repeat(3, 2)
    )
    assert figures["contrast"] == pytest.approx(0.5)
    assert figures["low_information"] == pytest.approx(1.0)
    assert (figures["bright"], figures["dark"]) == (0.0, 1.0)


def test_the_percentiles_agree_with_numpy() -> None:
    pixels = noise(80)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    expected = np.percentile(grey, [5, 99], method="inverted_cdf") / 255
    assert [scores(pixels)["bright"], scores(pixels)["dark"]] == pytest.approx(expected.tolist())


def test_blurring_lowers_the_blur_score() -> None:
    pixels = noise(200)
    assert scores(cv2.GaussianBlur(pixels, (0, 0), 3))["blur"] < 0.1 * scores(pixels)["blur"]


def test_the_blur_score_does_not_depend_on_the_size_of_the_file() -> None:
    pixels = cv2.GaussianBlur(noise(256), (0, 0), 1)
    enlarged = cv2.resize(pixels, (1024, 1024), interpolation=cv2.INTER_NEAREST)
    assert scores(enlarged)["blur"] == pytest.approx(scores(pixels)["blur"], rel=0.01)


@given(pixels=arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 400), st.just(3))))
@settings(max_examples=30)
def test_any_image_has_finite_figures_in_their_ranges(pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    figures = scores(pixels)
    assert all(np.isfinite(list(figures.values())))
    assert 0 <= figures["bright"] <= figures["dark"] <= 1
    assert 0 <= figures["contrast"] <= 0.5 + 1e-9
    assert 0 <= figures["low_information"] <= 8


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"dark": 0.05}, "dark"),
        ({"bright": 0.96}, "bright"),
        ({"blur": 19.0}, "blur"),
        ({"low_information": 1.9}, "low_information"),
        ({"width": 400, "height": 400}, "odd_size"),
        ({"width": 20, "height": 20}, "odd_size"),
        ({"width": 200, "height": 60}, "odd_aspect"),
        ({"width": 60, "height": 200}, "odd_aspect"),
    ],
)
def test_each_limit_finds_its_problem_and_no_other(change: dict[str, float], problem: str) -> None:
    found = problems(pd.DataFrame([FINE, FINE, FINE | change], index=list("xyz")), **LIMITS)
    assert set(found) == set(LIMITS)
    assert set(found.dtypes.astype(str)) == {"bool"}
    assert [name for name in LIMITS if found.at["z", name]] == [problem]
    assert not found.loc[["x", "y"]].any(axis=None)


def test_no_images_have_no_problems() -> None:
    assert problems(pd.DataFrame([FINE]).iloc[:0], **LIMITS).empty
