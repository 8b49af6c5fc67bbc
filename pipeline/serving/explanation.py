"""Where the model looked: cover the image piece by piece and measure the loss of the answer.

Occlusion sensitivity (Zeiler and Fergus, ECCV 2014, section 4.2). It needs only probabilities, so
any engine will do. Axes: n images, s side in pixels, k classes, g cells per side.
"""

from collections.abc import Callable
from io import BytesIO

import cv2
import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

Probabilities = Callable[[UInt8[np.ndarray, "n s s 3"]], Float32[np.ndarray, "n k"]]

CELLS = 10  # per side; the model predicts (CELLS - 1)² covered images
BATCH = 3  # covered images at a time: a request in between must not wait long
FAINT = 0.05  # an effect (in log-odds) below this is noise and is not amplified
# visible on dark and light, and to colour-blind people
COLOUR = np.array([255.0, 96.0, 0.0])


def explain(model: Probabilities, image: UInt8[np.ndarray, "s s 3"], target: int) -> bytes:
    """PNG of a prepared image that shows the evidence for class `target`."""
    return overlay(image, occlusion(model, image, target))


def occlusion(
    model: Probabilities, image: UInt8[np.ndarray, "s s 3"], target: int
) -> Float32[np.ndarray, "g g"]:
    """The effect of each cell on class `target`, in log-odds.

    It is the mean loss over the patches of 2 x 2 cells that cover the cell. Patches have the
    image's mean colour. The paper uses the probability, which hardly changes near 1.
    """
    edges = np.linspace(0, len(image), CELLS + 1).round().astype(int)
    corners = [(row, column) for row in range(CELLS - 1) for column in range(CELLS - 1)]
    whole = _log_odds(model(image[None])[:, target])[0]
    total, times = np.zeros((CELLS, CELLS), np.float32), np.zeros((CELLS, CELLS), np.float32)
    for start in range(0, len(corners), BATCH):
        part = corners[start : start + BATCH]
        losses = whole - _log_odds(model(_covered(image, edges, part))[:, target])
        for (row, column), loss in zip(part, losses, strict=True):
            total[row : row + 2, column : column + 2] += loss
            times[row : row + 2, column : column + 2] += 1
    return total / times


def overlay(image: UInt8[np.ndarray, "s s 3"], effects: Float32[np.ndarray, "g g"]) -> bytes:
    """PNG of the image with the evidence for the class in colour and the rest in dim grey.

    All of it is grey where no cell stands out.
    """
    strength = np.clip(effects / max(float(effects.max()), FAINT), 0, 1)
    smooth = cv2.resize(strength, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)[
        ..., None
    ]
    grey = image.mean(axis=2, keepdims=True) * 0.6 + image * 0.15
    lit = image * 0.65 + COLOUR * 0.35
    return _png((grey * (1 - smooth) + lit * smooth).round().astype(np.uint8))


def _covered(image: np.ndarray, edges: np.ndarray, corners: list[tuple[int, int]]) -> np.ndarray:
    covered = np.repeat(image[None], len(corners), axis=0)
    mean = image.reshape(-1, 3).mean(axis=0).round().astype(np.uint8)
    for place, (row, column) in enumerate(corners):
        covered[place, edges[row] : edges[row + 2], edges[column] : edges[column + 2]] = mean
    return covered


def _log_odds(probs: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    safe = probs.astype(np.float64).clip(1e-6, 1 - 1e-6)
    odds: Float32[np.ndarray, " n"] = np.log(safe / (1 - safe)).astype(np.float32)
    return odds


def _png(pixels: np.ndarray) -> bytes:
    target = BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=3)
    return target.getvalue()
