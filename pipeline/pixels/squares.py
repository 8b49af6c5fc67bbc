"""RGB pixels fitted into a square, and enhanced at that size.

Arrays are uint8 (h, w, 3), RGB.
"""

from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline import FieldmarkError

MID_GREY = 128


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
    """Fit into a square, then enhance at that size, so that the cost does not depend on the camera.

    `fit` is stretch, crop (the central square) or pad (with the median colour of the image's edge).
    `denoise` is the strength of non-local means, `clahe` the clip limit on an 8 x 8 grid over L of
    LAB; 0 switches either off. `normalise_brightness` then scales L to a mean of mid-grey, where
    white does not clip it; a black image stays black. `blur_faces` comes before all that, see
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
    """Shrink by area first, then enlarge by cubic, since one side may shrink and one grow."""
    inner = (min(pixels.shape[1], width), min(pixels.shape[0], height))
    shrunk = cv2.resize(pixels, inner, interpolation=cv2.INTER_AREA)
    return cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_CUBIC)


def _centre(pixels: np.ndarray) -> np.ndarray:
    """Crop before resizing: a strip of 1 x 1,000,000 pixels would exhaust the memory."""
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
    # OpenCV measures colour distance in LAB, which it computes from BGR.
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
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
