"""Where the model looked, for people who ask: a picture of evaluation/occlusion, a few covered
images at a time.

Axes: n images, s side in pixels, k classes, g cells per side.
"""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from pipeline.evaluation.occlusion import covered, effects, log_odds, n_patches, overlay

Probabilities = Callable[[UInt8[np.ndarray, "n s s 3"]], Float32[np.ndarray, "n k"]]

CELLS = 10  # per side; the model predicts (CELLS - 1)² covered images
BATCH = 3  # covered images at a time: a request in between must not wait long


def explain(model: Probabilities, image: UInt8[np.ndarray, "s s 3"], target: int) -> bytes:
    """PNG of a prepared image that shows the evidence for class `target`."""
    png = BytesIO()
    Image.fromarray(overlay(image, occlusion(model, image, target))).save(
        png, "PNG", compress_level=3
    )
    return png.getvalue()


def occlusion(
    model: Probabilities, image: UInt8[np.ndarray, "s s 3"], target: int
) -> Float32[np.ndarray, "g g"]:
    """The effect of each cell on class `target`, in log-odds."""
    whole = log_odds(model(image[None])[:, target])[0]
    parts = [
        log_odds(model(covered(image, CELLS, start, start + BATCH))[:, target])
        for start in range(0, n_patches(CELLS), BATCH)
    ]
    return effects(float(whole), np.concatenate(parts), CELLS)
