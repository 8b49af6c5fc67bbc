"""Bytes to RGB: decoded, upright, enhanced, square. Preprocessing and serving both use it.

Arrays are uint8 (h, w, 3), RGB. Colour profiles and gamma are not applied.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import numpy as np
import simplejpeg
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from PIL import __version__ as pillow_version

from pipeline.config import schema
from pipeline.pixels import colour, directories, exif, jpeg, png, reasons, squares, tiff
from pipeline.pixels.reasons import BadImage as BadImage
from pipeline.pixels.squares import square as square

# Only formats with an unmistakable signature: EPS would start Ghostscript on a stranger's bytes,
# TGA takes noise for an image, ICO holds images larger than its header admits.
FORMATS: tuple[str, ...] = get_args(schema.ImageFormat)

# Our max_pixels is checked on every header. Pillow's own limit would refuse what the user allowed.
Image.MAX_IMAGE_PIXELS = None

JPEGS = {"JPEG", "MPO"}  # MPO, from stereo and phone cameras, holds several JPEGs
# They decide on the pixels.
PARTS = (colour, directories, exif, jpeg, png, reasons, squares, tiff)


class Probe(NamedTuple):
    """The properties of a file; width and height in pixels, after EXIF orientation.

    has_metadata: it carries metadata other than orientation and place (has_gps); camera: its model,
    "" for unknown.
    """

    width: int
    height: int
    format: str
    n_frames: int
    has_gps: bool
    has_metadata: bool = False
    camera: str = ""


def decode(
    data: bytes, *, max_pixels: int | None, formats: Sequence[str] = FORMATS
) -> UInt8[np.ndarray, "h w 3"]:
    """The first frame as upright RGB; transparency lies on white, 16 bits are scaled to 8.

    max_pixels is checked before decoding. None is no limit, for files that have passed one.
    `formats` are those of FORMATS that are accepted. Raises BadImage, and nothing else, for
    whatever cannot be shown as the file means it, and for damage that the decoder notices.
    """
    with opened(data, max_pixels, formats) as image:
        return _upright(image, data)


def probe(data: bytes, *, max_pixels: int | None) -> Probe:
    """Read the whole file, so that what passes decodes later; raises BadImage like `decode`."""
    with opened(data, max_pixels) as image:
        if _is_plain_jpeg(image):
            jpeg.check(data, image.mode, image.size)
        else:
            colour.check(image, _loaded(image, data))
        height, width = _upright_size(image)
        return Probe(
            width,
            height,
            image.format or "",
            _n_frames(image, data),
            exif.has_gps(image),
            exif.has_metadata(image),
            exif.camera(image),
        )


def rules() -> str:
    """A hash of everything that decides what `decode`, `probe` and `square` return for a file."""
    files = [__file__, *(str(part.__file__) for part in PARTS)]
    code = b"".join(Path(file).read_bytes() for file in files)
    versions = pillow_version, simplejpeg.__version__, cv2.__version__
    return hashlib.sha256(f"{versions} ".encode() + code).hexdigest()


@contextmanager
def opened(
    data: bytes, max_pixels: int | None, formats: Sequence[str] = FORMATS
) -> Iterator[Image.Image]:
    """The header, read and checked; nothing is decoded yet.

    Any exception raised inside becomes BadImage.
    """
    if not data:
        raise BadImage("0 bytes")
    if "TIFF" in formats:
        tiff.check_header(data)
    try:
        with Image.open(BytesIO(data), formats=tuple(formats)) as image:
            _check_size(image.width, image.height, max_pixels)
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(_unidentified(data, formats)) from None
    except Exception as problem:  # decoders of damaged files raise nearly every type
        raise BadImage(reasons.of_decoder(problem)) from problem


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    if width * height == 0:
        raise BadImage("no pixels")
    if max_pixels is not None and width * height > max_pixels:
        megapixels = ceil(width * height / 1e5) / 10
        raise BadImage(f"{megapixels:g} megapixels exceed the limit of {max_pixels / 1e6:g}")


def _unidentified(data: bytes, formats: Sequence[str]) -> str:
    if "TIFF" in formats and data.startswith(tiff.PREFIXES) and (kind := tiff.kind(data)):
        return tiff.unreadable(kind)
    return reasons.of_unknown(data, formats)


def _is_plain_jpeg(image: Image.Image) -> bool:
    return image.format in JPEGS and image.mode in jpeg.SPACES


def _upright(image: Image.Image, data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB, turned by the orientation in the file."""
    if _is_plain_jpeg(image) and image.mode != "CMYK":
        stored = jpeg.decode(data, image.mode, image.size)
        if stored.shape[2] == 3 and exif.orientation(image) == 1:
            return stored
        upright = np.empty((*_upright_size(image), 3), np.uint8)
        exif.as_stored(upright, exif.orientation(image))[:] = stored
        return upright
    levels = _loaded(image, data)
    upright = np.empty((*_upright_size(image), 3), np.uint8)
    colour.write_rgb(image, exif.as_stored(upright, exif.orientation(image)), levels)
    if image.format == "GIF":
        _whiten_outside(image, upright)
    return upright


def _loaded(image: Image.Image, data: bytes) -> colour.Levels:
    """Decode, with the checks that Pillow omits."""
    if _is_plain_jpeg(image):
        jpeg.check(data, image.mode, image.size)
    if image.format == "PNG":
        png.check(image, data)
    kind = tiff.kind(data) if image.format == "TIFF" else None
    image.load()
    if image.format == "PNG":
        png.check_end(image, data)
    if kind and kind.bands_beyond_rgb and image.mode == "RGBA":
        image.putalpha(255)
    return tiff.levels(kind)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width after orientation.

    A PNG may hold its orientation behind its pixels: load it first.
    """
    width, height = image.size
    sideways = exif.orientation(image) in exif.SIDEWAYS
    return (width, height) if sideways else (height, width)


def _whiten_outside(gif: Image.Image, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Whiten the canvas outside the first frame, which may cover only a part of it."""
    left, top, right, bottom = gif.dispose_extent  # type: ignore[attr-defined]
    pixels[:top] = pixels[bottom:] = 255
    pixels[:, :left] = pixels[:, right:] = 255


def _n_frames(image: Image.Image, data: bytes) -> int:
    if image.format == "TIFF":
        return directories.n_pages(data)
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a file cut off behind its first frame still has that frame
        return 1
