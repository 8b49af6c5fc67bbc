"""A cache of what takes minutes for many images, by the content of all that it depends on.

.fieldmark/cache/folds/<content>.npy          out-of-fold probabilities, float64 (n, k)
.fieldmark/cache/folds/<content>-<fold>.npy   those of one fold, until all folds are done: a killed
                                              run goes on where it was
.fieldmark/cache/nearest/<content>.npy        rows of the most alike, int32 (n, k)
The folders may be deleted at any time.
"""

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import faiss
import numpy as np
import sklearn
from jaxtyping import Float64

from pipeline import config
from pipeline.labels import duplicates, errors, folds, neighbours
from pipeline.labels.errors import Features, Labelling, Labels
from pipeline.storage import store

AT_ONCE = 10_000  # rows of a mapped array, of which no more are in memory
JUDGING, LOOKING_ROUND = (errors, folds), (neighbours, duplicates)  # another method, another answer


def out_of_fold(
    features: Features,
    said: Labelling,
    *,
    folds: int,
    C: float,
    seed: int,
    rows: Labels | None = None,
) -> Float64[np.ndarray, "n k"]:
    """errors.out_of_fold, cached."""
    arrays = [
        features,
        said.labels,
        *(given for given in (said.weights, said.shares, rows) if given is not None),
    ]
    folder, content = (
        config.cache_folder() / "folds",
        _content(arrays, [*said.groups, str((folds, C, seed)), sklearn.__version__], JUDGING),
    )

    def keep(fold: int, judge: Callable[[], errors.Probs]) -> errors.Probs:
        return _once(folder / f"{content}-{fold}.npy", judge)

    def all_folds() -> Float64[np.ndarray, "n k"]:
        return errors.out_of_fold(features, said, folds=folds, C=C, seed=seed, rows=rows, keep=keep)

    probs = _once(folder / f"{content}.npy", all_folds)
    for part in folder.glob(f"{content}-*.npy"):
        part.unlink(missing_ok=True)
    return probs


def nearest(embeddings: Features, *, k: int) -> neighbours.Neighbours:
    """neighbours.nearest, cached."""
    content = _content([embeddings], [str(k), faiss.__version__], LOOKING_ROUND)
    return _once(
        config.cache_folder() / "nearest" / f"{content}.npy",
        lambda: neighbours.nearest(embeddings, k=k),
    )


def _once(file: Path, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """The array in the file, or else what is computed and then stands there."""
    with suppress(
        OSError, EOFError, ValueError
    ):  # none, or one cut short: a disk was full, or the machine lost power
        kept: np.ndarray = np.load(file, allow_pickle=False)
        return kept
    computed = compute()
    with store.whole(file) as half, half.open("wb") as opened:
        np.save(opened, computed)
    return computed


def _content(arrays: Sequence[np.ndarray], said: Sequence[str], code: Sequence[ModuleType]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        for start in range(0, len(array), AT_ONCE):
            digest.update(np.ascontiguousarray(array[start : start + AT_ONCE]).data)
            store.release(array)
    digest.update("\0".join(said).encode("utf-8", "surrogatepass"))
    for module in code:
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()
