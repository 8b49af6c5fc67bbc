"""Where a model looked, on models of which it is known."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.evaluation.occlusion import overlay
from pipeline.serving.explanation import BATCH, CELLS, explain, occlusion


def sigmoid(score: np.ndarray) -> np.ndarray:
    probs: np.ndarray = (1 / (1 + np.exp(-score))).astype(np.float32)
    return probs


def looks_at(top: int, left: int, side: int = 20) -> object:
    """Class 1 in so far as that square is bright, class 0 otherwise; the rest of the image does not
    count.
    """

    def model(images: np.ndarray) -> np.ndarray:
        assert len(images) <= BATCH
        bright = images[:, top : top + side, left : left + side].mean(axis=(1, 2, 3)) / 255
        one = sigmoid(8 * (bright - 0.5))
        return np.stack([1 - one, one], axis=1)

    return model


def bright_spot(top: int, left: int, side: int = 20, px: int = 100) -> np.ndarray:
    image = np.full((px, px, 3), 40, np.uint8)
    image[top : top + side, left : left + side] = 250
    return image


@pytest.mark.parametrize(("top", "left"), [(0, 0), (40, 60), (80, 80), (35, 15)])
def test_what_alone_counts_is_found_where_it_is(top: int, left: int) -> None:
    effects = occlusion(looks_at(top, left), bright_spot(top, left), 1)  # type: ignore[arg-type]
    cell = 100 // CELLS
    row, column = np.unravel_index(effects.argmax(), effects.shape)
    assert top <= (row + 0.5) * cell <= top + 20
    assert left <= (column + 0.5) * cell <= left + 20
    far = np.ones_like(effects, dtype=bool)
    far[max(0, top // cell - 1) : top // cell + 4, max(0, left // cell - 1) : left // cell + 4] = (
        False
    )
    assert np.allclose(effects[far], 0)


def test_what_speaks_for_one_of_two_classes_speaks_against_the_other() -> None:
    for_one, for_other = (
        occlusion(looks_at(40, 60), bright_spot(40, 60), target) for target in (1, 0)
    )  # type: ignore[arg-type]
    np.testing.assert_allclose(for_one, -for_other, atol=1e-3)


def test_a_model_that_looks_at_nothing_leaves_the_picture_grey() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    effects = occlusion(lambda images: np.full((len(images), 2), 0.5, np.float32), image, 0)
    assert not effects.any()
    shown = overlay(image, effects).astype(float)
    assert np.ptp(shown, axis=2).mean() < 0.2 * np.ptp(image.astype(float), axis=2).mean()


def test_a_certain_answer_is_explained_too() -> None:
    """The probability hardly moves there: 0.9999 to 0.999."""

    def certain(images: np.ndarray) -> np.ndarray:
        one = sigmoid(9.2 - 2.3 * (images[:, 40:60, 60:80].mean(axis=(1, 2, 3)) < 200))
        return np.stack([1 - one, one], axis=1)

    effects = occlusion(certain, bright_spot(40, 60), 1)
    assert effects.max() > 1
    assert effects.argmax() // CELLS in (4, 5) and effects.argmax() % CELLS in (6, 7)


def test_the_overlay_colours_what_counts_and_greys_the_rest() -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    effects = np.zeros((CELLS, CELLS), np.float32)
    effects[2, 7] = 3.0
    shown = overlay(image, effects).astype(float)
    colourful = np.ptp(shown, axis=2)
    assert colourful[22:28, 72:78].mean() > 3 * colourful[60:, :40].mean()


@settings(max_examples=20)
@given(st.integers(12, 70), st.integers(0, 2**32 - 1))
def test_any_size_and_content_gives_finite_numbers_and_a_picture_of_that_size(
    px: int, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (px, px, 3), np.uint8)

    def model(images: np.ndarray) -> np.ndarray:
        one = (images.mean(axis=(1, 2, 3)) / 255).astype(np.float32)
        return np.stack([one, 1 - one], axis=1)

    effects = occlusion(model, image, 0)
    assert effects.shape == (CELLS, CELLS) and np.isfinite(effects).all()
    assert Image.open(io.BytesIO(explain(model, image, 0))).size == (px, px)
