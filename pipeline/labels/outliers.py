"""Images unlike all others, by the distance to their nearest neighbours (Ramaswamy et al., SIGMOD 2000).

Axes: n images, d numbers an embedding, k neighbours.
"""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32

# Bounds the memory: the neighbours of this many images are looked at at once.
AT_ONCE = 4096
# Makes a median absolute deviation a standard deviation, where values are normal.
MAD_TO_STD = 1.4826


def distances(embeddings: Float32[np.ndarray, "n d"], nearest: Int32[np.ndarray, "n k"]) -> Float64[np.ndarray, " n"]:
    """Mean of 1 - cosine to the k nearest others, 0 to 2; zeros where there are no others."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
    found = np.zeros(len(unit))
    for start in range(0, len(unit) if nearest.shape[1] else 0, AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found[part] = 1 - np.einsum("nd,nkd->nk", unit[part], unit[nearest[part]]).mean(axis=1)
    return found


def outliers(distance: Float64[np.ndarray, " n"], *, deviations: float) -> Bool[np.ndarray, " n"]:
    """Which distances exceed the median by more than so many robust standard deviations (of the logarithm).

    Distances are skewed; their logarithm is not, and the median and its deviation do not feel the outliers themselves.
    """
    logs = np.log(np.maximum(distance, 1e-6))
    middle = np.median(logs) if len(logs) else 0.0
    spread = MAD_TO_STD * np.median(np.abs(logs - middle)) if len(logs) else 0.0
    far: Bool[np.ndarray, " n"] = logs > middle + deviations * spread
    return far & (spread > 0)
