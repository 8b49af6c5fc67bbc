"""Images so alike that they must not be dealt to different splits.

A pair counts when two views that fail differently agree: the perceptual hash, blind to fine detail, and the cosine of
the embeddings, blind to position. Axes: n images, d numbers an embedding, c candidate pairs.
"""

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import BallTree

HASH_BYTES = 8
HASH_BITS = 8 * HASH_BYTES

# Bounds the memory of the search: this many images are looked up at once.
QUERIES_AT_ONCE = 512

Pair = tuple[int, int, float]
Hashes = UInt8[np.ndarray, "n 8"]
Embeddings = Float32[np.ndarray, "n d"]


def perceptual_hash(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "8"]:
    """The 64 bits of pHash (signs of the low frequencies of the DCT against their median), packed."""
    return np.packbits(imagehash.phash(Image.fromarray(pixels)).hash.ravel())


def near_duplicates(
    hashes: Hashes, embeddings: Embeddings, *, max_hamming: int, min_cosine: float
) -> list[Pair]:
    """Pairs (i, j, cosine), i < j, in order, at most max_hamming bits apart and at least min_cosine alike.

    Embeddings need no normalisation; an embedding of zeros is like nothing.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
    pairs: list[Pair] = []
    for first, second in _candidates(hashes, max_hamming):
        cosine = np.einsum("cd,cd->c", unit[first], unit[second])
        kept = cosine >= min_cosine
        pairs += zip(first[kept].tolist(), second[kept].tolist(), cosine[kept].tolist(), strict=True)
    return sorted(pairs)


def groups(n: int, pairs: Sequence[Pair], given: Sequence[str], ids: Sequence[str]) -> list[str]:
    """For each of n images the smallest id among all those tied to it, by pairs or by the same given group.

    An empty given group ties to nothing. Raises ValueError where given or ids are not n.
    """
    if len(given) != n or len(ids) != n:
        raise ValueError(f"{n} images, {len(given)} given groups, {len(ids)} ids")
    first_of: dict[str, int] = {}
    ties = [(first_of.setdefault(group, i), i) for i, group in enumerate(given) if group]
    ties += [(first, second) for first, second, _ in pairs]
    ends = np.array(ties, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(n, n))
    members = connected_components(graph, directed=False)[1] if n else []
    names: dict[int, str] = {}
    for member, name in zip(members, ids, strict=True):
        names[member] = min(name, names.get(member, name))
    return [names[member] for member in members]


def _candidates(
    hashes: Hashes, max_hamming: int
) -> Iterator[tuple[Int64[np.ndarray, " c"], Int64[np.ndarray, " c"]]]:
    if len(hashes) == 0:
        return
    bits = np.unpackbits(hashes, axis=1).astype(np.float64)
    tree = BallTree(bits, metric="hamming")
    # Distances are fractions of the bits; half a bit keeps rounding from deciding.
    radius = (max_hamming + 0.5) / HASH_BITS
    for start in range(0, len(bits), QUERIES_AT_ONCE):
        found = tree.query_radius(bits[start : start + QUERIES_AT_ONCE], r=radius)
        first = np.repeat(np.arange(start, start + len(found)), [len(near) for near in found])
        second = np.concatenate(found).astype(np.int64)
        yield first[first < second], second[first < second]
