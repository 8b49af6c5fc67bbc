"""Pixels: bytes to RGB, the right way up, enhanced, square. Preprocessing and serving both come
through here.

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
from pipeline.pixels import colour, exif, jpeg, png, reasons, squares, tiff
from pipeline.pixels.reasons import BadImage as BadImage
from pipeline.pixels.squares import square as square

# Only formats with an unmistakable signature: EPS would start Ghostscript on a stranger's bytes,
# TGA takes noise for an image, ICO holds images larger than its header admits.
FORMATS: tuple[str, ...] = get_args(schema.ImageFormat)

# Our max_pixels is checked on every header; Pillow's own limit would refuse what the user has
# allowed.
Image.MAX_IMAGE_PIXELS = None

JPEGS = {"JPEG", "MPO"}  # MPO, of stereo and phone cameras: several JPEGs, the first one first
PARTS = (colour, exif, jpeg, png, reasons, squares, tiff)  # that have a say in the pixels


class Probe(NamedTuple):
    """What a file turned out to be; width and height in pixels as seen, after EXIF orientation.

    has_metadata: it carries metadata other than orientation and place (has_gps); camera: the name
    of its model, "" for unknown.
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
    """The first frame as RGB, the right way up; transparency lies on white, 16 bits are scaled to
    8.

    max_pixels is looked at before decoding; None, only for what has passed a limit, is no limit.
    `formats` are those of FORMATS that are taken. Raises BadImage, and nothing else, for whatever
    cannot be shown as the file means it, and for damage that the decoder notices.
    """
    with opened(data, max_pixels, formats) as image:
        return _upright(image, data)


def probe(data: bytes, *, max_pixels: int | None) -> Probe:
    """Read all of it, so that what passes here decodes later; raises BadImage like `decode`."""
    with opened(data, max_pixels) as image:
        if _is_plain_jpeg(image):
            jpeg.check(data, image.mode, image.size)
            width, height = image.size
            if exif.orientation(image) in exif.SIDEWAYS:
                width, height = height, width
        else:
            height, width = _upright(image, data).shape[:2]
        return Probe(
            width,
            height,
            image.format or "",
            _n_frames(image),
            exif.has_gps(image),
            exif.has_metadata(image),
            exif.camera(image),
        )


def rules() -> str:
    """A hash of all that decides what `decode`, `probe` and `square` make of a file."""
    files = [__file__, *(str(part.__file__) for part in PARTS)]
    code = b"".join(Path(file).read_bytes() for file in files)
    versions = pillow_version, simplejpeg.__version__, cv2.__version__
    return hashlib.sha256(f"{versions} ".encode() + code).hexdigest()


@contextmanager
def opened(
    data: bytes, max_pixels: int | None, formats: Sequence[str] = FORMATS
) -> Iterator[Image.Image]:
    """The header, read and found good; nothing is decoded yet. What is raised inside becomes
    BadImage.
    """
    if not data:
        raise BadImage("0 bytes")
    try:
        with Image.open(BytesIO(data), formats=tuple(formats)) as image:
            _check_size(image.width, image.height, max_pixels)
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(_unidentified(data, formats)) from None
    except Exception as problem:  # decoders of damaged files raise nearly every type there is
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
    """RGB, turned by the orientation that the file states."""
    if _is_plain_jpeg(image):
        if image.mode != "CMYK":
            return _turned(jpeg.decode(data, image.mode, image.size), exif.orientation(image))
        jpeg.check(data, image.mode, image.size)
    elif image.format == "PNG":
        png.check(image, data)
    kind = tiff.kind(data) if image.format == "TIFF" else None
    image.load()
    if kind and kind.bands_beyond_rgb and image.mode == "RGBA":
        image.putalpha(255)
    orientation = exif.orientation(image)  # a PNG may state it behind its pixels
    width, height = image.size
    shape = (width, height) if orientation in exif.SIDEWAYS else (height, width)
    upright = np.empty((*shape, 3), np.uint8)
    colour.write_rgb(image, exif.as_stored(upright, orientation), tiff.levels(kind))
    return upright


def _turned(
    stored: UInt8[np.ndarray, "h w c"], orientation: int
) -> UInt8[np.ndarray, "new_h new_w 3"]:
    if stored.shape[2] == 3 and orientation == 1:
        return stored
    height, width = stored.shape[:2]
    shape = (width, height) if orientation in exif.SIDEWAYS else (height, width)
    upright = np.empty((*shape, 3), np.uint8)
    exif.as_stored(upright, orientation)[:] = stored
    return upright


def _n_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a file cut off behind its first frame still has that frame
        return 1
