"""A contact sheet takes images and captions of any kind."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.pixels import sheets

sides = st.integers(1, 300)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(sides, sides), min_size=1, max_size=5),
    st.integers(1, 6),
    st.text(max_size=60),
)
def test_a_sheet_takes_images_and_captions_of_any_size(shapes, columns, caption):
    images = [np.zeros((height, width, 3), dtype=np.uint8) for height, width in shapes]
    png = sheets.sheet(images, [caption] * len(images), columns=columns, cell_px=48)
    assert Image.open(io.BytesIO(png)).width == 6 + min(columns, len(images)) * 54


def test_small_images_are_enlarged_to_crisp_pixels():
    image = np.array([[[255, 0, 0], [0, 0, 255]]] * 2, dtype=np.uint8)
    sheet = Image.open(io.BytesIO(sheets.sheet([image], [""], columns=1, cell_px=40)))
    assert sheet.getpixel((6 + 19, 6 + 20)) == (255, 0, 0)
    assert sheet.getpixel((6 + 20, 6 + 20)) == (0, 0, 255)


def test_a_sheet_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one image"):
        sheets.sheet([], [], columns=3, cell_px=40)


def test_a_sheet_with_a_caption_missing_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        sheets.sheet([np.zeros((4, 4, 3), dtype=np.uint8)] * 2, ["only one"], columns=3, cell_px=40)


def test_a_thumbnail_keeps_its_proportions_and_is_never_enlarged():
    wide, small = np.zeros((100, 400, 3), dtype=np.uint8), np.zeros((8, 8, 3), dtype=np.uint8)
    sizes = [
        Image.open(io.BytesIO(sheets.thumbnail(image, side_px=200))).size for image in (wide, small)
    ]
    assert sizes == [(200, 50), (8, 8)]
