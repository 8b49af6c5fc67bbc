"""Which images are attacked: drawn at random, each class by its share."""

import numpy as np
from jaxtyping import Bool, Int64

Labels = Int64[np.ndarray, " n"]
Stands = Bool[np.ndarray, " n"]  # which answers stay right


def stratified(labels: Int64[np.ndarray, " n"], size: int, seed: int) -> Int64[np.ndarray, " m"]:
    """Rows of at most `size` images in random order, whose classes have the shares that they have
    in all: each class gets the whole images of its share, the rest goes by the largest remainder.
    """
    random = np.random.default_rng(seed)
    size = min(size, len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * size / max(len(labels), 1)
    quota = np.floor(shares).astype(int)
    for which in np.argsort(quota - shares, kind="stable")[: size - quota.sum()]:
        quota[which] += 1
    parts = [
        random.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(classes, quota, strict=True)
    ]
    return random.permutation(np.concatenate([np.arange(0), *parts])).astype(np.int64)
