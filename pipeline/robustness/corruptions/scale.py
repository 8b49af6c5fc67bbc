"""Lengths, and pictures of noise, for images of any size."""

import cv2
import numpy as np
from jaxtyping import Float32

Image = Float32[np.ndarray, "h w 3"]
Plane = Float32[np.ndarray, "h w"]
REFERENCE_PX = 224  # the size that the authors' numbers are for


def scale(image: np.ndarray) -> float:
    """How many pixels stand for one of the authors'."""
    return float(min(image.shape[:2]) / REFERENCE_PX)


def smoothed(image: np.ndarray, sigma: float) -> np.ndarray:
    """Under a Gaussian of this standard deviation in pixels; as it is where that is below 0.1."""
    if sigma < 0.1:
        return image
    blurred: np.ndarray = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    return blurred


def enlarged(plane: Plane, factor: float) -> Plane:
    """The middle of a picture, enlarged to its whole."""
    h, w = plane.shape
    ch, cw = max(round(h / factor), 1), max(round(w / factor), 1)
    top, left = (h - ch) // 2, (w - cw) // 2
    middle = plane[top : top + ch, left : left + cw]
    return np.asarray(cv2.resize(middle, (w, h), interpolation=cv2.INTER_LINEAR), np.float32)


def plasma(shape: tuple[int, int], decay: float, random: np.random.Generator) -> Plane:
    """Clouds in 0 to 1: noise at each octave, finer ones weaker by `decay` (the authors' diamond
    squares have the same spectrum, and sides of a power of two).
    """
    h, w = shape
    clouds = np.zeros(shape, np.float32)
    side, strength = 2, 1.0
    while side < 2 * max(h, w):
        grid = random.uniform(-1, 1, (side + 1, side + 1)).astype(np.float32)
        clouds += strength * cv2.resize(grid, (w, h), interpolation=cv2.INTER_LINEAR)
        side, strength = side * 2, strength / decay
    clouds -= clouds.min()
    return clouds / max(float(clouds.max()), 1e-6)
