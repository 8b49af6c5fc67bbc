import numpy as np
import pytest
import torch

from pipeline.pixels.symmetry import SYMMETRIES, view

IMAGE = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)


def views(symmetry: str) -> list[np.ndarray]:
    return [view(torch.from_numpy(IMAGE[None]), flips)[0].numpy() for flips in SYMMETRIES[symmetry]]


def test_d4_is_the_eight_symmetries_of_the_square() -> None:
    turned = [np.rot90(side, k) for side in (IMAGE, IMAGE[:, ::-1]) for k in range(4)]
    assert sorted(v.tobytes() for v in views("d4")) == sorted(t.tobytes() for t in turned)


def test_flip_is_the_image_and_its_mirror_image() -> None:
    upright, mirrored = views("flip")
    np.testing.assert_array_equal(upright, IMAGE)
    np.testing.assert_array_equal(mirrored, IMAGE[:, ::-1])


def test_none_is_the_image_alone() -> None:
    (only,) = views("none")
    np.testing.assert_array_equal(only, IMAGE)


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_the_first_view_is_the_image_itself(symmetry: str) -> None:
    """The constants that standardise features come from it."""
    np.testing.assert_array_equal(views(symmetry)[0], IMAGE)


@pytest.mark.parametrize("flips", SYMMETRIES["d4"], ids=str)
def test_a_batch_keeps_its_order(flips: tuple[int, ...]) -> None:
    batch = torch.from_numpy(np.stack([IMAGE, 255 - IMAGE, IMAGE // 2]))
    alone = [view(image[None], flips)[0] for image in batch]
    assert torch.equal(view(batch, flips), torch.stack(alone))
