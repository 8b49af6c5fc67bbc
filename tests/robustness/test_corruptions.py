"""Corruptions work at any size, are the same each time, and get worse with their severity."""

import json

import numpy as np
import pytest
from skimage import data

from pipeline.robustness.corruptions.kinds import CAMERA, IMAGENET_C, KINDS, SEVERITIES, corrupted

# Mean change of a pixel (0 to 255) over four photos of scikit-image at 224 px, for severities 1 to
# 5, by imagecorruptions-imaug 1.1.5; each of ours comes near, but frost, which has no photos here.
LIBRARY = {
    "gaussian_noise": [15.5, 22.8, 32.9, 45.0, 59.8],
    "shot_noise": [14.9, 22.8, 32.1, 47.6, 59.5],
    "impulse_noise": [3.7, 7.7, 11.4, 21.6, 34.6],
    "defocus_blur": [6.9, 8.4, 11.1, 13.2, 15.1],
    "glass_blur": [8.1, 8.2, 13.1, 12.6, 14.2],
    "motion_blur": [9.5, 13.0, 16.0, 19.6, 21.7],
    "zoom_blur": [13.5, 16.0, 17.5, 19.2, 20.6],
    "snow": [41.2, 67.8, 66.5, 82.9, 98.1],
    "fog": [40.8, 40.4, 51.8, 51.6, 51.7],
    "brightness": [17.7, 34.7, 49.2, 60.9, 69.7],
    "contrast": [24.3, 28.4, 32.4, 36.5, 38.5],
    "elastic_transform": [7.4, 8.9, 10.8, 12.3, 13.3],
    "pixelate": [4.2, 4.8, 6.0, 7.4, 8.2],
    "jpeg_compression": [5.9, 6.7, 7.3, 8.6, 10.4],
}
NOT_RISING = {"frost", "fog", "pixelate"}  # by the authors' own numbers, or by the picture


def photos(side: int = 224) -> list[np.ndarray]:
    import cv2

    whole = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    return [cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA) for photo in whole]


def change(kind: str, severity: int) -> float:
    pairs = [(corrupted(p, kind, severity, i).astype(float), p) for i, p in enumerate(photos())]
    return float(np.mean([np.abs(after - before).mean() for after, before in pairs]))


@pytest.mark.parametrize("kind", LIBRARY)
def test_a_corruption_changes_pixels_as_much_as_that_of_a_library(kind):
    ours = [change(kind, severity) for severity in SEVERITIES]
    assert ours == pytest.approx(LIBRARY[kind], rel=0.25, abs=2)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - NOT_RISING))
def test_a_higher_severity_changes_more(kind):
    changes = [change(kind, severity) for severity in SEVERITIES]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_the_kinds_are_the_15_of_imagenet_c_and_what_cameras_do():
    assert len(IMAGENET_C) == 15
    assert set(CAMERA) == {"overexposure", "underexposure", "white_balance", "grey", "dust"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(16, 16), (33, 50)])
def test_any_size_is_taken_and_the_result_is_the_same_each_time(kind, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    state = json.dumps(np.random.get_state()[1].tolist())
    once, again = (corrupted(image, kind, 5, seed=3) for _ in range(2))
    assert once.dtype == np.uint8 and once.shape == image.shape
    assert np.array_equal(once, again)
    assert json.dumps(np.random.get_state()[1].tolist()) == state  # nobody else's draws change


@pytest.mark.parametrize("kind", ["gaussian_noise", "snow", "glass_blur", "dust"])
def test_another_seed_draws_anew(kind):
    image = photos(64)[0]
    assert not np.array_equal(corrupted(image, kind, 3, seed=0), corrupted(image, kind, 3, seed=1))


def test_grey_at_severity_5_has_no_colour():
    grey = corrupted(photos(64)[0], "grey", 5, seed=0)
    assert (np.ptp(grey, axis=2) <= 1).all()
