"""How usable each image is, from cheap figures of its pixels, and which images fall outside the
limits.

dark             99th percentile of luminance, 0 to 1: even the brightest parts of a dark image are
                 dark
bright           5th percentile of luminance, 0 to 1: even the darkest parts of an overexposed image
                 are bright
brightness       mean luminance, 0 to 1
contrast         standard deviation of luminance, 0 to 0.5 (RMS contrast, Peli 1990)
blur             variance of the Laplacian of luminance in grey levels 0 to 255; low means blurred
low_information  entropy of the luminance histogram in bits, 0 to 8; low means little to see

The percentiles are those of cleanvision (https://github.com/cleanlab/cleanvision).
"""

import cv2
import numpy as np
import pandas as pd
from jaxtyping import Float64, UInt8

# Part of the figures' definition: another size makes another blur score.
WORKING_PX = 256
LEVELS = 256
FIGURES = ["dark", "bright", "brightness", "contrast", "blur", "low_information"]


def scores(pixels: UInt8[np.ndarray, "h w 3"]) -> dict[str, float]:
    """The figures of one RGB image, as the module says."""
    grey = cv2.cvtColor(_shrunk(pixels), cv2.COLOR_RGB2GRAY)
    shares = (
        cv2.calcHist([grey], [0], None, [LEVELS], [0, LEVELS]).ravel().astype(np.float64)
        / grey.size
    )
    levels = np.arange(LEVELS) / (LEVELS - 1)
    brightness = float(shares @ levels)
    present = shares[shares > 0]
    return {
        "dark": _percentile(shares, 0.99),
        "bright": _percentile(shares, 0.05),
        "brightness": brightness,
        "contrast": float(np.sqrt(shares @ (levels - brightness) ** 2)),
        "blur": float(cv2.Laplacian(grey, cv2.CV_32F).var()),
        "low_information": float(abs(present @ np.log2(present))),
    }


def problems(
    scores: pd.DataFrame,
    *,
    dark: float,
    bright: float,
    blur: float,
    low_information: float,
    odd_size: float,
    odd_aspect: float,
) -> pd.DataFrame:
    """Which image has which problem: one bool column a limit, named like it; rows as in scores.

    scores has the figures and width and height in pixels. odd_size is a factor: areas larger than
    the median by more than it, or smaller, are odd. odd_aspect is the longer side over the shorter
    one.
    """
    width, height = scores["width"].astype(float), scores["height"].astype(float)
    times_median = width * height / (width * height).median()
    return pd.DataFrame(
        {
            "dark": scores["dark"] < dark,
            "bright": scores["bright"] > bright,
            "blur": scores["blur"] < blur,
            "low_information": scores["low_information"] < low_information,
            "odd_size": (times_median > odd_size) | (times_median < 1 / odd_size),
            "odd_aspect": np.maximum(width / height, height / width) > odd_aspect,
        }
    )


def _shrunk(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
    height, width = pixels.shape[:2]
    scale = WORKING_PX / max(height, width)
    if scale >= 1:  # enlarging would make a sharp small image look blurred
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _percentile(shares: Float64[np.ndarray, " levels"], fraction: float) -> float:
    return int(np.count_nonzero(np.cumsum(shares) < fraction)) / (LEVELS - 1)


def judged(rows: pd.DataFrame, scores: np.ndarray, limits: dict[str, float]) -> pd.DataFrame:
    """The rows with quality scores and problems as columns."""
    scored = pd.DataFrame(scores, columns=FIGURES, index=rows.index)
    wrong = problems(pd.concat([scored, rows[["width", "height"]]], axis=1), **limits)
    return pd.concat([rows, scored.add_suffix("_score"), wrong], axis=1)
