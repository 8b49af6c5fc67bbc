import struct
import zlib
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline import FieldmarkError
from pipeline.pixels.images import BadImage, decode, probe, square

LIMIT = 1_000_000
PLAIN: dict[str, Any] = {
    "fit": "stretch",
    "denoise": 0.0,
    "clahe": 0.0,
    "normalise_brightness": False,
}
ORIENTATION, GPS = 0x0112, 0x8825


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    data = BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


def grey_png_without_pixels(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + header
        + struct.pack(">I", zlib.crc32(header))
    )
    return start + struct.pack(">I", 100) + b"IDAT"


REAL = {
    kind: encoded(Image.fromarray(noise(20, 30)), kind)
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP")
}
STARTS = [
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff\xe1",
    b"GIF89a",
    b"II*\0",
    b"BM",
    b"P5 9 9 255\n",
    b"P6 9 9 65535\n",
]


def outcome(data: bytes) -> tuple[int, int] | str:
    try:
        pixels = decode(data, max_pixels=LIMIT)
    except BadImage as bad:
        return str(bad)
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    return pixels.shape[1], pixels.shape[0]


def probed(data: bytes) -> tuple[int, int] | str:
    try:
        return probe(data, max_pixels=LIMIT)[:2]
    except BadImage as bad:
        return str(bad)


def damaged(data: bytes, where: int, damage: bytes) -> bytes:
    where %= len(data)
    return data[:where] + damage + data[where + len(damage) :]


@given(st.sampled_from(STARTS), st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_bad_image(start: bytes, rest: bytes) -> None:
    assert outcome(start + rest)


@given(st.sampled_from(sorted(REAL)), st.floats(0, 1))
def test_a_file_cut_anywhere_raises_nothing_but_bad_image(kind: str, fraction: float) -> None:
    assert outcome(REAL[kind][: int(fraction * len(REAL[kind]))])


@given(st.sampled_from(sorted(REAL)), st.integers(0, 10**6), st.binary(min_size=1, max_size=8))
def test_a_damaged_file_raises_nothing_but_bad_image(kind: str, where: int, damage: bytes) -> None:
    assert outcome(damaged(REAL[kind], where, damage))


@given(st.sampled_from(sorted(REAL)), st.integers(0, 10**6), st.binary(max_size=8))
def test_probe_and_decode_agree_on_what_is_an_image(kind: str, where: int, damage: bytes) -> None:
    data = damaged(REAL[kind], where, damage)
    assert probed(data) == outcome(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"not an image at all", "not an image of a known format"),
        (REAL["JPEG"][:-200], "truncated"),
        (REAL["PNG"][:-200], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
    ids=["empty", "text", "half a JPEG", "half a PNG", "a program for Ghostscript"],
)
def test_the_reason_is_a_plain_sentence(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(data, max_pixels=LIMIT)


def test_a_header_that_claims_a_huge_image_is_refused_before_anything_is_decoded() -> None:
    """The file has no pixels: had it been decoded, the reason would be that it is truncated."""
    with pytest.raises(BadImage, match="^3600 megapixels exceed the limit of 50$"):
        decode(grey_png_without_pixels(60_000, 60_000), max_pixels=50_000_000)


def test_one_pixel_above_the_limit_is_too_many() -> None:
    assert decode(REAL["PNG"], max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(BadImage, match="exceed the limit"):
        decode(REAL["PNG"], max_pixels=599)


def test_a_limit_above_that_of_pillow_counts() -> None:
    with pytest.raises(BadImage, match="truncated|damaged"):
        decode(grey_png_without_pixels(20_000, 10_000), max_pixels=10**9)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_keeps_relative_brightness(kind: str) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(1, -1) * 257
    pixels = decode(encoded(Image.fromarray(ramp), kind), max_pixels=LIMIT)
    assert (pixels == np.arange(256)[None, :, None]).all()


def test_32_bit_whole_numbers_of_16_bit_range_are_scaled() -> None:
    grey = Image.fromarray(np.array([[0, 32896, 33100, 65535]], np.int32))
    assert decode(encoded(grey, "TIFF"), max_pixels=LIMIT)[0, :, 0].tolist() == [0, 128, 129, 255]


def test_floats_from_0_to_1_are_scaled() -> None:
    grey = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    assert decode(encoded(grey, "TIFF"), max_pixels=LIMIT)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [-0.1, 1.5, np.nan, np.inf])
def test_floats_whose_white_is_unknown_are_refused(value: float) -> None:
    grey = Image.fromarray(np.array([[0, value]], np.float32))
    with pytest.raises(BadImage, match="outside 0..1"):
        decode(encoded(grey, "TIFF"), max_pixels=LIMIT)


@pytest.mark.parametrize("value", [-1, 65536])
def test_whole_numbers_whose_white_is_unknown_are_refused(value: int) -> None:
    grey = Image.fromarray(np.array([[0, value]], np.int32))
    with pytest.raises(BadImage, match="outside 0..65535"):
        decode(encoded(grey, "TIFF"), max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_shows_the_same_red_or_grey(mode: str) -> None:
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    flat = red.convert(mode) if mode != "1" else Image.new("1", (8, 8), 1)
    shown = {"1": (255, 255, 255), "L": (76, 76, 76), "LA": (76, 76, 76)}.get(mode, (255, 0, 0))
    pixels = decode(encoded(flat, "TIFF"), max_pixels=LIMIT)
    assert np.abs(pixels.astype(int) - shown).max() <= 2


def test_transparency_lies_on_white() -> None:
    glass = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (decode(encoded(glass, "PNG"), max_pixels=LIMIT) == 255).all()


def test_a_transparent_palette_colour_lies_on_white() -> None:
    image = Image.new("P", (4, 4), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.putpixel((1, 0), 1)
    pixels = decode(encoded(image, "PNG", transparency=bytes([0, 255])), max_pixels=LIMIT)
    assert pixels[0, :2].tolist() == [[255, 255, 255], [255, 0, 0]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_photo_stands_upright_whatever_its_orientation(kind: str, orientation: int) -> None:
    upright = np.kron(
        np.array([[250, 10, 130], [60, 200, 30]], np.uint8), np.ones((8, 8), np.uint8)
    )
    # Pillow's inverse transpositions.
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    image = Image.fromarray(upright)
    stored = image if undo is None else image.transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(stored, kind, exif=exif)
    assert np.abs(decode(data, max_pixels=LIMIT)[:, :, 0].astype(int) - upright).max() < 12
    assert probe(data, max_pixels=LIMIT)[:2] == (24, 16)


def test_broken_exif_does_not_spoil_the_pixels() -> None:
    data = encoded(Image.fromarray(noise(8, 8)), "JPEG", exif=b"Exif\0\0no TIFF header in here")
    assert decode(data, max_pixels=LIMIT).shape == (8, 8, 3)
    assert not probe(data, max_pixels=LIMIT).has_gps


def test_an_animation_shows_its_first_frame() -> None:
    frames = [Image.new("RGB", (6, 5), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode(data, max_pixels=LIMIT)[0, 0].tolist() == [255, 0, 0]
    assert probe(data, max_pixels=LIMIT)[:5] == (6, 5, "GIF", 3, False)


def test_probe_sees_a_place() -> None:
    exif = Image.Exif()
    exif[GPS] = {1: "N", 2: (48.0, 8.0, 0.0)}
    data = encoded(Image.fromarray(noise(8, 8)), "JPEG", exif=exif)
    assert probe(data, max_pixels=LIMIT).has_gps
    assert not probe(data, max_pixels=LIMIT).has_metadata  # the place has a count of its own


def test_probe_sees_what_a_file_says_beside_its_pixels() -> None:
    exif = Image.Exif()
    exif[272] = "X100"
    image, sideways = Image.fromarray(noise(8, 8)), Image.Exif()
    sideways[ORIENTATION] = 6
    probed = probe(encoded(image, "JPEG", exif=exif), max_pixels=LIMIT)
    assert (probed.has_metadata, probed.camera, probed.has_gps) == (True, "X100", False)
    assert probe(encoded(image, "JPEG", comment=b"at home"), max_pixels=LIMIT).has_metadata
    for plain in (
        encoded(image, "PNG"),
        encoded(image, "JPEG"),
        encoded(image, "JPEG", exif=sideways),
    ):
        assert not probe(plain, max_pixels=LIMIT).has_metadata


@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(1, 40),
    st.sampled_from(["stretch", "crop", "pad"]),
)
def test_every_fit_gives_the_square_asked_for(
    height: int, width: int, size_px: int, fit: str
) -> None:
    assert square(noise(height, width), size_px=size_px, **{**PLAIN, "fit": fit}).shape == (
        size_px,
        size_px,
        3,
    )


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_square_of_the_right_size_is_left_as_it_is(fit: str) -> None:
    pixels = noise(32, 32)
    assert (square(pixels, size_px=32, **{**PLAIN, "fit": fit}) == pixels).all()


def test_stretch_keeps_all_of_the_image() -> None:
    halves = (
        np.repeat(np.array([[0, 200]], np.uint8), 20, axis=1)[:, :, None].repeat(10, 0).repeat(3, 2)
    )
    small = square(halves, size_px=10, **PLAIN)
    assert small[:, 0].max() == 0 and small[:, -1].min() == 200


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)], ids=["wide", "tall"])
def test_a_side_that_shrinks_is_averaged_also_where_the_other_grows(
    axes: tuple[int, int, int],
) -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), 20)[None, :, None].repeat(5, 0).repeat(3, 2)
    assert (square(stripes.transpose(axes), size_px=10, **PLAIN) == 100).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)], ids=["wide", "tall"])
def test_crop_keeps_the_middle(axes: tuple[int, int, int]) -> None:
    thirds = (
        np.repeat(np.array([[0, 100, 0]], np.uint8), 10, axis=1)[:, :, None]
        .repeat(10, 0)
        .repeat(3, 2)
    )
    assert (square(thirds.transpose(axes), size_px=10, **{**PLAIN, "fit": "crop"}) == 100).all()


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2)], ids=["wide", "tall"])
def test_pad_adds_the_colour_of_the_edge(axes: tuple[int, int, int]) -> None:
    framed = np.full((10, 20, 3), 90, np.uint8)
    framed[3:7, 5:15] = 220
    padded = square(framed.transpose(axes), size_px=20, **{**PLAIN, "fit": "pad"}).transpose(axes)
    assert (padded[[0, 4, 15, 19]] == 90).all()
    assert (padded[5:15] == framed).all()


def test_an_unknown_fit_is_named() -> None:
    with pytest.raises(FieldmarkError, match="fit: zoom is unknown"):
        square(noise(8, 8), size_px=8, **{**PLAIN, "fit": "zoom"})


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
def test_a_very_long_strip_costs_no_memory(fit: str) -> None:
    assert square(noise(1, 200_000), size_px=64, **{**PLAIN, "fit": fit}).shape == (64, 64, 3)


def test_denoising_lessens_noise_and_keeps_colour() -> None:
    flat = (
        np.random.default_rng(0).normal((180, 90, 30), 8, (32, 32, 3)).clip(0, 255).astype(np.uint8)
    )
    smooth = square(flat, size_px=32, **{**PLAIN, "denoise": 10.0})
    assert smooth.std(axis=(0, 1)).max() < flat.std(axis=(0, 1)).min() / 2
    assert np.abs(smooth.mean(axis=(0, 1)) - (180, 90, 30)).max() < 6


def test_clahe_raises_local_contrast() -> None:
    faint = np.random.default_rng(0).integers(100, 110, (64, 64, 1), np.uint8).repeat(3, 2)
    assert square(faint, size_px=64, **{**PLAIN, "clahe": 4.0}).std() > 2 * faint.std()


@pytest.mark.parametrize("level", [30, 128, 220])
def test_normalised_brightness_is_mid_grey(level: int) -> None:
    image = np.full((16, 16, 3), level, np.uint8)
    image[:8] -= 20
    lit = square(image, size_px=16, **{**PLAIN, "normalise_brightness": True})
    assert cv2.cvtColor(lit, cv2.COLOR_RGB2LAB)[:, :, 0].mean() == pytest.approx(128, abs=1)
    assert lit[:8].mean() < lit[8:].mean()


def test_black_stays_black() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    assert not square(black, size_px=8, **{**PLAIN, "normalise_brightness": True}).any()
