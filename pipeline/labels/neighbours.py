"""Which images look most alike, by the cosine of their embeddings; the review page shows them beside each image.

Axes: n images, d numbers an embedding, k neighbours.
"""

import numpy as np
from jaxtyping import Float32, Int32

# Bounds the memory of the search: this many images are compared with all others at once.
QUERIES_AT_ONCE = 512


def nearest(embeddings: Float32[np.ndarray, "n d"], *, k: int) -> Int32[np.ndarray, "n k2"]:
    """Rows of the k others most alike, the most alike first (on a tie the earlier row); fewer where there are fewer.

    Embeddings need no normalisation; an embedding of zeros is like nothing.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
    k = max(0, min(k, len(unit) - 1))
    found = np.empty((len(unit), k), np.int32)
    for start in range(0, len(unit) if k else 0, QUERIES_AT_ONCE):
        distance = -(unit[start : start + QUERIES_AT_ONCE] @ unit.T)
        here = np.arange(len(distance))
        distance[here, start + here] = np.inf
        near = np.sort(np.argpartition(distance, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(np.take_along_axis(distance, near, axis=1), axis=1, kind="stable")
        found[start + here] = np.take_along_axis(near, order, axis=1)
    return found
