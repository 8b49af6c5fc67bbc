"""Where a model looked: cover the image piece by piece and measure the loss of the answer.

Occlusion sensitivity (Zeiler and Fergus, ECCV 2014, section 4.2). It needs only answers, so any
model and any engine will do. Axes: n images, s side in pixels, g cells per side, p patches.
"""

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8

FAINT = 0.05  # an effect (in log-odds) below this is noise and is not amplified
# visible on dark and light, and to colour-blind people
COLOUR = np.array([255.0, 96.0, 0.0])
Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; the last two not included


def edges(side_px: int, cells: int) -> Int64[np.ndarray, " g1"]:
    """Where the cells of a side begin, in pixels, and where the last one ends."""
    return np.linspace(0, side_px, cells + 1).round().astype(np.int64)


def n_patches(cells: int) -> int:
    """How many covered images a map takes."""
    return (cells - 1) ** 2


def covered(
    image: UInt8[np.ndarray, "s s 3"], cells: int, start: int = 0, stop: int | None = None
) -> UInt8[np.ndarray, "p s s 3"]:
    """The image under each patch of 2 x 2 cells, or under those from `start` to `stop`.

    Patches have the image's mean colour.
    """
    at = edges(len(image), cells)
    mean = image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    patches = range(n_patches(cells))[start:stop]
    images = np.repeat(image[None], len(patches), axis=0)
    for place, patch in enumerate(patches):
        row, column = divmod(patch, cells - 1)
        images[place, at[row] : at[row + 2], at[column] : at[column + 2]] = mean
    return images


def effects(
    whole: float, of_covered: Float[np.ndarray, " p"], cells: int
) -> Float32[np.ndarray, "g g"]:
    """The effect of each cell on the answer: the mean loss over the patches that cover it.

    whole: the log-odds of the answer to the image, of_covered: to `covered`. The paper uses the
    probability, which hardly changes near 1.
    """
    total, times = np.zeros((cells, cells), np.float32), np.zeros((cells, cells), np.float32)
    for patch, loss in enumerate(whole - of_covered):
        row, column = divmod(patch, cells - 1)
        total[row : row + 2, column : column + 2] += loss
        times[row : row + 2, column : column + 2] += 1
    return total / times


def log_odds(probs: Float[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    """Of probabilities, which are kept apart from 0 and 1."""
    safe = probs.astype(np.float64).clip(1e-6, 1 - 1e-6)
    odds: Float32[np.ndarray, " n"] = np.log(safe / (1 - safe)).astype(np.float32)
    return odds


def overlay(
    image: UInt8[np.ndarray, "s s 3"],
    effect: Float[np.ndarray, "g g"],
    outline: Box = (0, 0, 0, 0),
) -> UInt8[np.ndarray, "s s 3"]:
    """The image with the evidence for the class in colour and the rest in dim grey.

    All of it is grey where no cell stands out. outline: a box that is drawn, unless it is empty.
    """
    strength = np.clip(effect / max(float(effect.max()), FAINT), 0, 1)
    smooth = cv2.resize(strength, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)[
        ..., None
    ]
    grey = image.mean(axis=2, keepdims=True) * 0.6 + image * 0.15
    lit = image * 0.65 + COLOUR * 0.35
    mixed = grey * (1 - smooth) + lit * smooth
    shown: UInt8[np.ndarray, "s s 3"] = mixed.round().astype(np.uint8)
    top, left, bottom, right = outline
    if bottom > top:
        width = max(1, len(image) // 112)
        inner = (left + width, top + width), (right - 1 - width, bottom - 1 - width)
        cv2.rectangle(shown, *inner, (255, 255, 255), width)
    return shown
