"""From the modes of a decoder to 8-bit RGB: scaled, on white, without copies of the whole.

Arrays are uint8 (h, w, 3). Colour profiles and gamma are not applied.
"""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms

from pipeline.pixels.reasons import BadImage

STRIP_PIXELS = 2**18  # converted at once
ALWAYS_SHOWN = {"1", "L", "RGB", "RGBA"}


class Levels(NamedTuple):
    """The meaning of the numbers of a grey image deeper than 8 bits."""

    white: int = 65535
    white_is_zero: bool = False


def write_rgb(image: Image.Image, into: UInt8[np.ndarray, "h w 3"], levels: Levels) -> None:
    """Convert a loaded image strip by strip; raises BadImage where black and white are unknown."""
    for rows, strip in _strips(image):
        into[rows] = _rgb(strip, levels)


def check(image: Image.Image, levels: Levels) -> None:
    """Raise BadImage where `write_rgb` would.

    A deep image is checked value by value; for other modes one pixel is enough.
    """
    if image.mode in ALWAYS_SHOWN and "transparency" not in image.info:
        return
    deep = image.mode[0] in "IF"
    for _, strip in _strips(image if deep else image.crop((0, 0, 1, 1))):
        _rgb(strip, levels)


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    width, height = image.size
    n_rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, n_rows):
        rows = slice(top, min(top + n_rows, height))
        whole = n_rows >= height
        yield rows, image if whole else image.crop((0, rows.start, width, rows.stop))


def _rgb(strip: Image.Image, levels: Levels) -> np.ndarray:
    if strip.mode.startswith("I"):
        values = np.asarray(strip)
        grey = _from_whole_numbers(values, levels)
        grey[values == strip.info.get("transparency", -1)] = 255
        return _grey(grey)
    if strip.mode == "F":
        return _grey(_from_float(np.asarray(strip), levels))
    if strip.mode == "LAB":
        return np.asarray(ImageCms.applyTransform(strip, _lab_to_srgb()))
    if strip.mode == "La":
        strip = strip.convert("LA")
    if strip.has_transparency_data:
        above = strip.convert("RGBA")
        below = Image.new("RGBA", above.size, "white")
        below.alpha_composite(above)
        strip = below
    return np.asarray(strip.convert("RGB"))


def _grey(values: np.ndarray) -> np.ndarray:
    return values[:, :, None]  # one channel, for all three


def _from_whole_numbers(grey: np.ndarray, levels: Levels) -> np.ndarray:
    if grey.min() < 0 or grey.max() > levels.white:
        raise BadImage(
            f"{'32' if grey.dtype.itemsize > 2 else '16'}-bit values outside 0..{levels.white}, "
            "whose black and white are unknown"
        )
    eight_bits = ((grey.astype(np.uint32) * 255 + levels.white // 2) // levels.white).astype(
        np.uint8
    )
    return 255 - eight_bits if levels.white_is_zero else eight_bits


def _from_float(grey: np.ndarray, levels: Levels) -> np.ndarray:
    if not (grey.min() >= 0 and grey.max() <= 1):  # also false for NaN
        raise BadImage("floating-point values outside 0..1, whose black and white are unknown")
    eight_bits: np.ndarray = np.rint(grey * 255).astype(np.uint8)
    return 255 - eight_bits if levels.white_is_zero else eight_bits


@cache
def _lab_to_srgb() -> ImageCms.ImageCmsTransform:
    """From the L*a*b* of TIFF files, whose white is D50."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    exact = ImageCms.Flags.NOOPTIMIZE  # no table of a few colours
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB", flags=exact)
