import numpy as np
import pytest
import torch
from skimage.feature import hog
from toys import draw

from pipeline import FieldmarkError
from pipeline.features.dense import shrink
from pipeline.features.hog import HOG

RANDOM = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)


def ours(images: np.ndarray, **settings: int) -> np.ndarray:
    return HOG(**{"input_px": 1000, "orientations": 9, "cell_px": 8, "block_cells": 2, **settings})(
        torch.from_numpy(images)
    ).numpy()


def reference(image: np.ndarray, orientations: int, cell_px: int, block_cells: int) -> np.ndarray:
    grey = image.astype(np.float64) @ [0.299, 0.587, 0.114]
    return hog(
        grey, orientations, (cell_px, cell_px), (block_cells, block_cells), block_norm="L2-Hys"
    )


@pytest.mark.parametrize(
    ("px", "orientations", "cell_px", "block_cells"),
    [(48, 9, 8, 2), (48, 8, 16, 1), (47, 6, 5, 3), (28, 9, 7, 2), (16, 12, 4, 4)],
)
@pytest.mark.parametrize("kind", ["noise", "shading"])
def test_it_is_what_scikit_image_computes(
    kind: str, px: int, orientations: int, cell_px: int, block_cells: int
) -> None:
    images = RANDOM[:, :px, :px] if kind == "noise" else draw([0, 1, 2], px=px)
    found = ours(images, orientations=orientations, cell_px=cell_px, block_cells=block_cells)
    wanted = [reference(image, orientations, cell_px, block_cells) for image in images]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_an_even_image_has_no_gradients_and_no_gaps() -> None:
    assert not ours(np.full((2, 32, 32, 3), 77, np.uint8)).any()


def test_brighter_light_changes_little() -> None:
    dark = draw([0, 1], px=32) // 2
    np.testing.assert_allclose(ours(dark), ours(dark * 2), atol=1e-3)


def test_large_images_are_averaged_down_first() -> None:
    small = RANDOM[:, :24, :24]
    large = small.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(ours(large, input_px=24), ours(small, input_px=24), atol=1e-4)


@pytest.mark.parametrize(("px", "shrunk"), [(64, 32), (95, 47), (63, 63), (32, 32), (28, 28)])
def test_it_shrinks_by_whole_factors_and_never_below_what_is_asked(px: int, shrunk: int) -> None:
    assert shrink(torch.zeros(1, px, px), 32).shape[-1] == shrunk


def test_an_image_smaller_than_a_block_says_what_to_do() -> None:
    with pytest.raises(FieldmarkError, match="28 x 28.*cell_px"):
        ours(RANDOM[:, :28, :28], cell_px=16, block_cells=2)
