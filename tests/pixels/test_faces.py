"""A face is found and blurred beyond recognition, whatever the photo; and nothing else changes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data

from pipeline.pixels import faces, images
from pipeline.pixels.images import square

ASTRONAUT = data.astronaut()
FACE = (slice(75, 160), slice(195, 255))  # rows, columns


def test_the_face_is_gone_for_the_detector_too_and_the_rest_is_as_it_was() -> None:
    blurred = faces.blurred(ASTRONAUT)
    assert len(faces.boxes(ASTRONAUT)) == 1 and len(faces.boxes(blurred)) == 0
    assert (
        np.abs(np.diff(blurred[FACE].astype(int), axis=1)).mean()
        < 0.5 * np.abs(np.diff(ASTRONAUT[FACE].astype(int), axis=1)).mean()
    )
    changed = np.argwhere((blurred != ASTRONAUT).any(axis=2))
    assert (
        len(changed) and (changed.min(0) > [10, 140]).all() and (changed.max(0) < [230, 310]).all()
    )


def test_several_faces_of_any_size_are_found() -> None:
    pair = np.hstack([ASTRONAUT, ASTRONAUT[:, ::-1]]).repeat(2, axis=0).repeat(2, axis=1)
    assert len(faces.boxes(pair)) == 2
    assert len(faces.boxes(ASTRONAUT[::4, ::4].copy())) == 1


@pytest.mark.parametrize(
    "photo", [data.coffee, data.chelsea, data.rocket], ids=lambda photo: photo.__name__
)
def test_a_photo_without_people_stays_as_it_is(photo: object) -> None:
    pixels = photo()  # type: ignore[operator]
    assert (faces.blurred(pixels) == pixels).all()


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
@settings(max_examples=25)
def test_any_shape_is_taken(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert faces.blurred(noise).shape == noise.shape


def test_threads_get_what_one_gets() -> None:
    alone = faces.blurred(ASTRONAUT)
    with ThreadPoolExecutor(4) as pool:
        assert all((blurred == alone).all() for blurred in pool.map(faces.blurred, [ASTRONAUT] * 8))


def test_it_is_done_before_the_photo_shrinks_and_only_when_asked_for() -> None:
    how = {
        "size_px": 64,
        "fit": "crop",
        "denoise": 0.0,
        "clahe": 0.0,
        "normalise_brightness": False,
    }
    plain = images.square(ASTRONAUT, **how)  # type: ignore[arg-type]
    assert (
        square(ASTRONAUT, **how, blur_faces=True) == images.square(faces.blurred(ASTRONAUT), **how)
    ).all()  # type: ignore[arg-type]
    assert (plain != square(ASTRONAUT, **how, blur_faces=True)).any()  # type: ignore[arg-type]
