"""Out-of-fold probabilities, computed once: kept by the content of all that they depend on.

.fieldmark/cache/folds/<content>.npy   float64 (n, k); the folder may be deleted at any time
"""

import hashlib
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sklearn
from jaxtyping import Float64

from pipeline import config
from pipeline.labels import errors
from pipeline.labels.errors import Features, Labels, Weights


def out_of_fold(
    features: Features, labels: Labels, groups: Sequence[str], *, folds: int, C: float, seed: int,
    weights: Weights | None = None,
) -> Float64[np.ndarray, "n k"]:  # fmt: skip
    """errors.out_of_fold, or what it said of the same arguments before."""
    file = _folder() / f"{_content(features, labels, groups, weights, (folds, C, seed))}.npy"
    if file.exists():
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    probs = errors.out_of_fold(features, labels, groups, folds=folds, C=C, seed=seed, weights=weights)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{uuid.uuid4().hex}.partial")
    with partial.open("wb") as opened:
        np.save(opened, probs)
    partial.rename(file)
    return probs


def _content(
    features: Features, labels: Labels, groups: Sequence[str], weights: Weights | None, settings: tuple[int | float, ...]
) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in (features, labels, *([] if weights is None else [weights])):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    digest.update("\0".join([*groups, str(settings), sklearn.__version__]).encode("utf-8", "surrogatepass"))
    digest.update(Path(errors.__file__).read_bytes())  # another method, another answer
    return digest.hexdigest()


def _folder() -> Path:
    return Path(os.environ.get("FIELDMARK_CACHE", config.home() / ".fieldmark" / "cache")) / "folds"
