"""Altered images: small natural changes that no answer should depend on, and parts of the image.

Each function maps one image, uint8 (s, s, 3), and a random generator to an image of the same size.
Sizes stand in the names, since they are part of a figure's definition, and not settings.
"""

from collections.abc import Callable

import cv2
import numpy as np
import simplejpeg
from jaxtyping import Bool, Int64, UInt8

Image = UInt8[np.ndarray, "s s 3"]
Alteration = Callable[[Image, np.random.Generator], Image]
CENTRE = 0.7  # of the side; the ring around it is the border
PATCHES = 4  # a side is cut into so many


def sample(labels: Int64[np.ndarray, " n"], size: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Positions of at most `size` images, drawn at random, each class by its share."""
    rng = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for c in np.unique(labels):
        own = rng.permutation(np.flatnonzero(labels == c))
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.sort(np.argsort(place, kind="stable")[:size])


def shift_2px(image: Image, rng: np.random.Generator) -> Image:
    """Moved by two pixels along each axis, in a random direction."""
    x, y = rng.choice([-2.0, 2.0], 2)
    return _moved(image, np.array([[1.0, 0.0, x], [0.0, 1.0, y]]))


def scale_5_percent(image: Image, rng: np.random.Generator) -> Image:
    """5 % larger or smaller."""
    return _turned(image, 0.0, 1.0 + rng.choice([-0.05, 0.05]))


def rotation_3_degrees(image: Image, rng: np.random.Generator) -> Image:
    """Turned by three degrees to either side."""
    return _turned(image, rng.choice([-3.0, 3.0]), 1.0)


def brightness_10_percent(image: Image, rng: np.random.Generator) -> Image:
    """10 % brighter or darker."""
    return cv2.convertScaleAbs(image, alpha=1.0 + rng.choice([-0.1, 0.1]))


def jpeg_75(image: Image, rng: np.random.Generator) -> Image:
    """Saved as JPEG at quality 75, and read again."""
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=75)
    saved: Image = simplejpeg.decode_jpeg(data)
    return saved


def border_alone(image: Image, rng: np.random.Generator) -> Image:
    """Only the ring around the centre; the rest has the image's mean colour."""
    return _blanked(image, _centre(len(image)))


def centre_alone(image: Image, rng: np.random.Generator) -> Image:
    """Only the centre, CENTRE of the side."""
    return _blanked(image, ~_centre(len(image)))


def shuffled_patches(image: Image, rng: np.random.Generator) -> Image:
    """PATCHES times PATCHES pieces in random order: textures stay, shapes do not."""
    side = len(image) // PATCHES
    shuffled, order = image.copy(), rng.permutation(PATCHES**2)
    for to, start in enumerate(order):
        (a, b), (c, d) = divmod(to, PATCHES), divmod(int(start), PATCHES)
        piece = image[c * side : (c + 1) * side, d * side : (d + 1) * side]
        shuffled[a * side : (a + 1) * side, b * side : (b + 1) * side] = piece
    return shuffled


NATURAL: dict[str, Alteration] = {
    each.__name__: each
    for each in (shift_2px, scale_5_percent, rotation_3_degrees, brightness_10_percent, jpeg_75)
}
PARTS: dict[str, Alteration] = {
    each.__name__: each for each in (border_alone, centre_alone, shuffled_patches)
}


def _moved(image: Image, matrix: np.ndarray) -> Image:
    size = (image.shape[1], image.shape[0])
    # What comes in from outside is mirrored: a black edge would be no natural change.
    return cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT_101)


def _turned(image: Image, degrees: float, scale: float) -> Image:
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    return _moved(image, cv2.getRotationMatrix2D(middle, degrees, scale))


def _centre(side: int) -> Bool[np.ndarray, "s s"]:
    margin = round(side * (1 - CENTRE) / 2)
    inside = np.zeros((side, side), bool)
    inside[margin : side - margin, margin : side - margin] = True
    return inside


def _blanked(image: Image, where: Bool[np.ndarray, "s s"]) -> Image:
    blanked = image.copy()
    blanked[where] = image.mean(axis=(0, 1)).round().astype(np.uint8)
    return blanked
