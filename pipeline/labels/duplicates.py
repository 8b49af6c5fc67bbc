"""Images so alike that they must not be dealt to different splits.

A pair counts when two views that fail differently agree: the perceptual hash, blind to fine detail,
and the cosine of the embeddings, blind to position. Axes: n images, d numbers an embedding, c
candidate pairs.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import faiss
import imagehash
import numpy as np
from jaxtyping import Float, Float32, Int64, UInt8
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.storage import store

HASH_BYTES = 8
HASH_BITS = 8 * HASH_BYTES

# Bounds the memory of the search: this many images are looked up, and this many pairs compared, at
# once.
QUERIES_AT_ONCE = 128
PAIRS_AT_ONCE = 4096
# Thousands of blank images would all be pairs of each other: an image is compared with the next
# ones that hash alike.
MOST_PAIRS = 256
# Up to here the hash tables prune; beyond, they would look at nearly every image several times.
MOST_TABLES = 10

Rows = Int64[np.ndarray, " c"]
Hashes = UInt8[np.ndarray, "n 8"]
Embeddings = Float[np.ndarray, "n d"]


class Pairs(NamedTuple):
    """Rows of images, first < second, ordered by both; and the cosine of their embeddings."""

    first: Rows
    second: Rows
    cosine: Float32[np.ndarray, " c"]


def perceptual_hash(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "8"]:
    """The 64 bits of pHash (signs of the low frequencies of the DCT against their median),
    packed.
    """
    return np.packbits(imagehash.phash(Image.fromarray(pixels)).hash.ravel())


def near_duplicates(
    hashes: Hashes, embeddings: Embeddings, *, max_hamming: int, min_cosine: float
) -> Pairs:
    """Pairs at most max_hamming bits apart and at least min_cosine alike: all of them, up to
    MOST_PAIRS for each first.

    Embeddings need no normalisation, and may be mapped from disk; one of zeros has a cosine of 0
    with all others.
    """
    pairs = [Pairs(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float32)))]
    for first, second in _candidates(hashes, max_hamming):
        for start in range(0, len(first), PAIRS_AT_ONCE):
            a, b = first[start : start + PAIRS_AT_ONCE], second[start : start + PAIRS_AT_ONCE]
            cosine = np.einsum("cd,cd->c", unit(embeddings[a]), unit(embeddings[b]))
            kept = cosine >= min_cosine
            pairs.append(Pairs(a[kept], b[kept], cosine[kept]))
        store.release(embeddings)
    return Pairs(*(np.concatenate(column) for column in zip(*pairs, strict=True)))


def unit(embeddings: Embeddings) -> Float32[np.ndarray, "n d"]:
    """Scaled to length 1 in single precision; zeros stay zeros."""
    wide = embeddings.astype(np.float32)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: np.ndarray = np.divide(wide, lengths, out=wide, where=lengths > 0)
    return scaled


def groups(n: int, pairs: Pairs, given: Sequence[str], ids: Sequence[str]) -> list[str]:
    """For each of n images the smallest id among all those tied to it, by pairs or by the same
    given group.

    An empty given group ties to nothing. Raises ValueError where given or ids are not n.
    """
    if len(given) != n or len(ids) != n:
        raise ValueError(f"{n} images, {len(given)} given groups, {len(ids)} ids")
    first_of: dict[str, int] = {}
    ties = [(first_of.setdefault(group, i), i) for i, group in enumerate(given) if group]
    ends = np.concatenate(
        [np.array(ties, np.int64).reshape(-1, 2), np.stack([pairs.first, pairs.second], axis=1)]
    )
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(n, n))
    members = connected_components(graph, directed=False)[1] if n else []
    names: dict[int, str] = {}
    for member, name in zip(members, ids, strict=True):
        names[member] = min(name, names.get(member, name))
    return [names[member] for member in members]


def _candidates(hashes: Hashes, max_hamming: int) -> Iterator[tuple[Rows, Rows]]:
    """Exact: of max_hamming + 1 pieces of two such hashes at least one is equal, and each piece has
    a hash table.

    Multi-index hashing (Norouzi, Punjani and Fleet, CVPR 2012).
    """
    tables = max_hamming + 1
    few = tables <= MOST_TABLES
    index = (
        faiss.IndexBinaryMultiHash(HASH_BITS, tables, HASH_BITS // tables)
        if few
        else faiss.IndexBinaryFlat(HASH_BITS)
    )
    index.add(hashes)
    for start in range(0, len(hashes), QUERIES_AT_ONCE):
        ends, _, second = index.range_search(
            hashes[start : start + QUERIES_AT_ONCE], tables
        )  # strictly nearer than
        counts: Rows = np.diff(ends.astype(np.int64))
        first = np.repeat(np.arange(start, start + len(counts)), counts)
        yield _next_ones(first[first < second], second[first < second])


def _next_ones(
    first: Rows, second: Rows
) -> tuple[Int64[np.ndarray, " kept"], Int64[np.ndarray, " kept"]]:
    """Ordered by both, at most MOST_PAIRS for each first."""
    order = np.lexsort((second, first))
    first, second = first[order], second[order]
    place = np.arange(len(first)) - np.searchsorted(first, first)
    return first[place < MOST_PAIRS], second[place < MOST_PAIRS]
