"""Pixels: bytes to RGB, the right way up, enhanced, square. Preprocessing and serving both come
through here.

Arrays are uint8 (h, w, 3), RGB. Colour profiles are not applied.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from math import ceil
from typing import Any, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from pipeline import FieldmarkError
from pipeline.config import schema

# Only formats with an unmistakable signature: EPS would start Ghostscript on a stranger's bytes,
# TGA takes noise for an image, ICO holds images larger than its header admits.
FORMATS: tuple[str, ...] = get_args(schema.ImageFormat)

# Our max_pixels is checked on every header; Pillow's own limit would refuse what the user has
# allowed.
Image.MAX_IMAGE_PIXELS = None

# ImageOps.exif_transpose writes the EXIF block anew, which fails on photos whose other tags are
# broken.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MID_GREY = 128

# Pillow's names of what is neither pixels nor EXIF; the texts of a PNG come apart from these.
BESIDE_PIXELS = {"xmp", "XML:com.adobe.xmp", "photoshop", "comment"}


class BadImage(ValueError):
    """Bytes that are no usable image; the message is the reason, fit for a list that people
    read.
    """


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
    cannot be shown.
    """
    with _opened(data, max_pixels, formats) as image:
        return np.array(_upright(image))


def probe(data: bytes, *, max_pixels: int | None) -> Probe:
    """Decode in full, so that what passes here decodes later; raises BadImage like `decode`."""
    with _opened(data, max_pixels) as image:
        width, height = _upright(image).size
        return Probe(
            width,
            height,
            image.format or "",
            _n_frames(image),
            _has_gps(image),
            _has_metadata(image),
            _camera(image),
        )


def square(
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    size_px: int,
    fit: str,
    denoise: float,
    clahe: float,
    normalise_brightness: bool,
    blur_faces: bool = False,
) -> UInt8[np.ndarray, "size size 3"]:
    """Fit into a square, then enhance at that size, where the cost no longer depends on the camera.

    `fit` is stretch, crop (the central square) or pad (with the median colour of the image's edge).
    `denoise` is the strength of non-local means, `clahe` the clip limit on an 8 x 8 grid over L of
    LAB; 0 switches either off. `normalise_brightness` then scales L so that its mean is mid-grey,
    where white does not clip it; a black image stays black. `blur_faces` comes before all that, see
    pipeline.pixels.faces.
    """
    if blur_faces:
        from pipeline.pixels import faces  # the detector takes a while to load

        pixels = faces.blurred(pixels)
    small = _fitted(pixels, size_px, fit)
    if denoise:
        small = _denoised(small, denoise)
    if clahe or normalise_brightness:
        small = _relit(small, clahe, normalise_brightness)
    return small


@contextmanager
def _opened(
    data: bytes, max_pixels: int | None, formats: Sequence[str] = FORMATS
) -> Iterator[Image.Image]:
    if not data:
        raise BadImage("0 bytes")
    try:
        with Image.open(BytesIO(data), formats=tuple(formats)) as image:
            _check_size(image.width, image.height, max_pixels)
            image.load()
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"not an image of a known format ({', '.join(formats)})") from None
    except Exception as problem:  # decoders of damaged files raise nearly every type there is
        raise BadImage(_reason(problem)) from problem


def _check_size(width: int, height: int, max_pixels: int | None) -> None:
    if width * height == 0:
        raise BadImage("no pixels")
    if max_pixels is not None and width * height > max_pixels:
        megapixels = ceil(width * height / 1e5) / 10
        raise BadImage(f"{megapixels:g} megapixels exceed the limit of {max_pixels / 1e6:g}")


def _reason(problem: Exception) -> str:
    if "truncated" in str(problem).lower():
        return "truncated: the file ends too early"
    return f"damaged: {problem or type(problem).__name__}"


def _upright(image: Image.Image) -> Image.Image:
    """RGB, turned by the EXIF orientation. (Pillow turns a TIFF itself, and then drops the tag.)"""
    turn = TURNS.get(_exif(image).get(ExifTags.Base.Orientation, 1))
    rgb = _rgb(image)
    return rgb if turn is None else rgb.transpose(turn)


def _exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # a broken EXIF block does not spoil the pixels
        return Image.Exif()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(np.asarray(image)).convert("RGB")
    if image.mode == "F":
        return _from_float(np.asarray(image)).convert("RGB")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGBA", above.size, "white")
        return Image.alpha_composite(white, above).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(grey: np.ndarray) -> Image.Image:
    if grey.min() < 0 or grey.max() > 65535:
        raise BadImage("32-bit values outside 0..65535, whose black and white are unknown")
    return Image.fromarray(((grey.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _from_float(grey: np.ndarray) -> Image.Image:
    if not (grey.min() >= 0 and grey.max() <= 1):  # also false for NaN
        raise BadImage("floating-point values outside 0..1, whose black and white are unknown")
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8))


def _n_frames(image: Image.Image) -> int:
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a file cut off behind its first frame still has that frame
        return 1


def _has_gps(image: Image.Image) -> bool:
    try:
        return bool(_exif(image).get_ifd(ExifTags.IFD.GPSInfo))
    except Exception:  # an EXIF block too broken to be read tells nobody a place
        return False


def _has_metadata(image: Image.Image) -> bool:
    told = BESIDE_PIXELS & image.info.keys()
    return bool(
        told
        or getattr(image, "text", None)
        or set(_exif(image)) - {ExifTags.Base.Orientation, ExifTags.Base.GPSInfo}
    )


def _camera(image: Image.Image) -> str:
    return str(_exif(image).get(ExifTags.Base.Model, "")).strip("\0 ")


def _fitted(pixels: np.ndarray, size_px: int, fit: str) -> np.ndarray:
    match fit:
        case "stretch":
            return _resized(pixels, size_px, size_px)
        case "crop":
            return _resized(_centre(pixels), size_px, size_px)
        case "pad":
            return _padded(pixels, size_px)
    raise FieldmarkError(f"fit: {fit} is unknown; choose stretch, crop or pad")


def _resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Shrink by area first, then enlarge by cubic: right also where one side shrinks and one
    grows.
    """
    inner = (min(pixels.shape[1], width), min(pixels.shape[0], height))
    shrunk = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC)


def _centre(pixels: np.ndarray) -> np.ndarray:
    """Cropped before resizing: a strip of 1 x 1,000,000 pixels would grow beyond all memory."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def _padded(pixels: np.ndarray, size_px: int) -> np.ndarray:
    scale = size_px / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    inner = _resized(pixels, width, height)
    edge = np.concatenate([inner[0], inner[-1], inner[:, 0], inner[:, -1]])
    canvas = np.empty((size_px, size_px, 3), np.uint8)
    canvas[:] = np.median(edge, axis=0).astype(np.uint8)
    top, left = (size_px - height) // 2, (size_px - width) // 2
    canvas[top : top + height, left : left + width] = inner
    return canvas


def _denoised(pixels: np.ndarray, strength: float) -> np.ndarray:
    bgr = cv2.cvtColor(
        pixels, cv2.COLOR_RGB2BGR
    )  # OpenCV measures colour distance in LAB, from BGR
    smooth = cv2.fastNlMeansDenoisingColored(bgr, None, strength, strength)
    return cv2.cvtColor(smooth, cv2.COLOR_BGR2RGB)


def _relit(pixels: np.ndarray, clahe: float, normalise_brightness: bool) -> np.ndarray:
    lab: np.ndarray[Any, Any] = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    light = lab[:, :, 0]
    if clahe:
        light = cv2.createCLAHE(clipLimit=clahe, tileGridSize=(8, 8)).apply(light)
    if normalise_brightness and light.any():
        light = np.rint(np.minimum(light * (MID_GREY / light.mean()), 255)).astype(np.uint8)
    lab[:, :, 0] = light
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
