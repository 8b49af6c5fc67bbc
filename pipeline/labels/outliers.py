"""Images unlike all others, by the distance to their nearest neighbours (Ramaswamy et al., SIGMOD
2000).

Axes: n images, d numbers an embedding, k neighbours.
"""

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float64, Int32

from pipeline.config.schema import Outliers
from pipeline.labels.duplicates import unit
from pipeline.storage import store

# Bounds the memory: the neighbours of this many images are looked at at once.
AT_ONCE = 1024
# Makes a median absolute deviation a standard deviation, where values are normal.
MAD_TO_STD = 1.4826

Embeddings = Float[np.ndarray, "n d"]
Nearest = Int32[np.ndarray, "n k"]


def distances(embeddings: Embeddings, nearest: Nearest) -> Float64[np.ndarray, " n"]:
    """Mean of 1 - cosine to the k nearest others, 0 to 2; zeros where there are no others.

    Embeddings need no normalisation, and may be mapped from disk.
    """
    scores = np.zeros(len(embeddings))
    for start in range(0, len(embeddings) if nearest.shape[1] else 0, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        near = unit(embeddings[nearest[part].ravel()]).reshape(*nearest[part].shape, -1)
        scores[part] = 1 - np.einsum("nd,nkd->nk", unit(embeddings[part]), near).mean(axis=1)
        store.release(embeddings)
    return scores


def outliers(distance: Float64[np.ndarray, " n"], *, deviations: float) -> Bool[np.ndarray, " n"]:
    """Which distances exceed the median by more than so many robust standard deviations (of the
    logarithm).

    Distances are skewed; their logarithm is not, and the median and its deviation do not feel the
    outliers themselves.
    """
    logs = np.log(np.maximum(distance, 1e-6))
    middle = np.median(logs) if len(logs) else 0.0
    spread = MAD_TO_STD * np.median(np.abs(logs - middle)) if len(logs) else 0.0
    far: Bool[np.ndarray, " n"] = logs > middle + deviations * spread
    return far & (spread > 0)


def judged(
    rows: pd.DataFrame, embedding: Embeddings, nearest: Nearest, settings: Outliers
) -> pd.DataFrame:
    """The rows with outlier_score and outlier."""
    far = distances(embedding, nearest)
    return rows.assign(outlier_score=far, outlier=outliers(far, **settings.model_dump()))
