"""Out-of-fold probabilities, computed once: kept by the content of all that they depend on.

.fieldmark/cache/folds/<content>.npy          float64 (n, k); the folder may be deleted at any time
.fieldmark/cache/folds/<content>-<fold>.npy   what one fold says, until all have spoken: a killed run goes on where it was
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import sklearn
from jaxtyping import Float64

from pipeline import config, store
from pipeline.labels import errors, folds
from pipeline.labels.errors import Features, Labels, Weights

AT_ONCE = 10_000  # rows of a mapped array, of which no more are in memory


def out_of_fold(
    features: Features, labels: Labels, groups: Sequence[str], *, folds: int, C: float, seed: int,
    weights: Weights | None = None, rows: Labels | None = None,
) -> Float64[np.ndarray, "n k"]:  # fmt: skip
    """errors.out_of_fold, or what it said of the same arguments before."""
    content = _content(features, labels, groups, weights, rows, (folds, C, seed))

    def keep(fold: int, judge: Callable[[], errors.Probs]) -> errors.Probs:
        return _once(_folder() / f"{content}-{fold}.npy", judge)

    def all_folds() -> Float64[np.ndarray, "n k"]:
        return errors.out_of_fold(features, labels, groups, folds=folds, C=C, seed=seed, weights=weights, rows=rows, keep=keep)

    probs = _once(_folder() / f"{content}.npy", all_folds)
    for part in _folder().glob(f"{content}-*.npy"):
        part.unlink(missing_ok=True)
    return probs


def _once(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in the file, or else what is computed and then stands there."""
    with suppress(OSError, EOFError, ValueError):  # none, or one cut short: a disk was full, or the machine lost power
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    computed = compute()
    with store.whole(file) as half, half.open("wb") as opened:
        np.save(opened, computed)
    return computed


def _content(
    features: Features, labels: Labels, groups: Sequence[str], weights: Weights | None, rows: Labels | None,
    settings: tuple[int | float, ...],
) -> str:  # fmt: skip
    digest = hashlib.blake2b(digest_size=16)
    for array in (features, labels, *(given for given in (weights, rows) if given is not None)):
        digest.update(f"{array.dtype} {array.shape}".encode())
        for start in range(0, len(array), AT_ONCE):
            digest.update(np.ascontiguousarray(array[start : start + AT_ONCE]).data)
            store.release(array)
    digest.update("\0".join([*groups, str(settings), sklearn.__version__]).encode("utf-8", "surrogatepass"))
    for module in (errors, folds):
        digest.update(Path(str(module.__file__)).read_bytes())  # another method, another answer
    return digest.hexdigest()


def _folder() -> Path:
    return config.cache_folder() / "folds"
