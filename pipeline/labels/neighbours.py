"""Which images look most alike, by the cosine of their embeddings; the review page shows them
beside each image.

Few images are all compared with all. Of many, an inverted file (Jégou, Douze and Schmid, PAMI 2011)
of shortened embeddings proposes candidates, which are then compared exactly. Axes: n images, d
numbers an embedding, k neighbours.
"""

from typing import Any

import faiss
import numpy as np
from jaxtyping import Float, Int32

from pipeline.labels.duplicates import unit
from pipeline.storage import memo, store

# Bounds the memory of the search: this many images are compared with all others at once, or with
# their candidates.
QUERIES_AT_ONCE = 512
CANDIDATES_AT_ONCE = 64
# Up to here all pairs are compared, which takes seconds.
EXACT = 20_000

SHORT = 64  # numbers that stand for an embedding in the index, a byte each
LEARN = 20_000  # images that the index is laid out by
ADD = 4096  # that are added to it at once
PROBES = 24  # cells that are looked into
CANDIDATES = 6  # times k

Embeddings = Float[np.ndarray, "n d"]
Neighbours = Int32[np.ndarray, "n k2"]


def nearest(embeddings: Embeddings, *, k: int) -> Neighbours:
    """Rows of the k others most alike, the most alike first (on a tie the earlier row); fewer where
    there are fewer.

    Of more than EXACT images a few of the rows may be the next ones instead. Embeddings need no
    normalisation, and may be mapped from disk; one of zeros has a cosine of 0 with all others. What
    was found once is kept by the memo.
    """
    k = max(0, min(k, len(embeddings) - 1))
    if k == 0:
        return np.empty((len(embeddings), 0), np.int32)
    question = memo.key({"k": k}, embeddings, code=(__name__,), libraries=("numpy", "faiss-cpu"))
    return memo.array("neighbours", question, lambda: _nearest(embeddings, k))


def _nearest(embeddings: Embeddings, k: int) -> Neighbours:
    if len(embeddings) <= EXACT:
        return _of_all(unit(embeddings), k)
    return _of_candidates(embeddings, k)


def _of_all(unit: Embeddings, k: int) -> Neighbours:
    nearest = np.empty((len(unit), k), np.int32)
    for start in range(0, len(unit), QUERIES_AT_ONCE):
        distance = -(unit[start : start + QUERIES_AT_ONCE] @ unit.T)
        here = np.arange(len(distance))
        distance[here, start + here] = np.inf
        near = np.sort(np.argpartition(distance, k - 1, axis=1)[:, :k], axis=1)
        order = np.argsort(np.take_along_axis(distance, near, axis=1), axis=1, kind="stable")
        nearest[start + here] = np.take_along_axis(near, order, axis=1)
    return nearest


def _of_candidates(embeddings: Embeddings, k: int) -> Neighbours:
    index = _index(embeddings)
    cells = faiss.extract_index_ivf(index)
    nearest = np.empty((len(embeddings), k), np.int32)
    for start in range(0, len(embeddings), CANDIDATES_AT_ONCE):
        asked = unit(embeddings[start : start + CANDIDATES_AT_ONCE])
        near = _proposed(index, cells, asked, 1 + CANDIDATES * k)
        alike = np.einsum(
            "qd,qcd->qc", asked, unit(embeddings[near.ravel()]).reshape(*near.shape, -1)
        )
        alike[near == start + np.arange(len(near))[:, None]] = -np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :k]
        nearest[start : start + len(near)] = np.take_along_axis(near, order, axis=1)
        store.release(embeddings)
    return nearest


def _proposed(index: Any, cells: Any, asked: Embeddings, n: int) -> np.ndarray:
    """Rows in order, n for each; all cells are looked into where those nearest hold fewer."""
    near: np.ndarray = index.search(asked, n)[1]
    short = np.flatnonzero((near < 0).any(axis=1))
    if len(short):
        cells.nprobe = cells.nlist
        near[short] = index.search(asked[short], n)[1]
        cells.nprobe = PROBES
    return np.sort(near, axis=1)


def _index(embeddings: Embeddings) -> Any:
    """Holds SHORT bytes and a number for each image; laid out by the same images every time."""
    n, d = embeddings.shape
    chosen = np.sort(np.random.default_rng(0).permutation(n)[:LEARN])
    index = faiss.index_factory(d, f"PCA{min(SHORT, d)},IVF{round(2 * np.sqrt(n))},SQ8")
    index.train(unit(embeddings[chosen]))
    for start in range(0, n, ADD):
        index.add(unit(embeddings[start : start + ADD]))
        store.release(embeddings)
    faiss.extract_index_ivf(index).nprobe = PROBES
    return index
