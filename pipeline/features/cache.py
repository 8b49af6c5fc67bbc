"""Features of an extractor that learns no more: computed once for the same weights and pixels, kept
by the memo.

features/<extractor>-<view>/   float32 (d,) by the content of the image; float16 below a cut (stages)
extractors/                    what settings were built to, so that nothing is built in vain
torch is imported only where something is computed; write_features does that in a process of its
own, since torch and the engine would hold some 700 MiB to the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float16
from numpy.typing import DTypeLike
from tqdm import tqdm

from pipeline import config
from pipeline.compute import parallel
from pipeline.features import identity
from pipeline.pixels.symmetry import SYMMETRIES
from pipeline.storage import memo, store

if TYPE_CHECKING:
    from torch import nn

SHARD = 512  # images
NO_IMAGES = "there are no images to compute features of"
Flips = tuple[int, ...]
Images = Sequence[np.ndarray] | np.ndarray
Keys = memo.Keys  # of memo.ITEM
Missing = dict[Flips, np.ndarray]  # rows of each view
Allocate = Callable[[tuple[int, int, int]], np.ndarray]
_last: dict[tuple[object, ...], np.ndarray] = {}


def features(
    module: nn.Module, images: Images, *, symmetry: str, keys: Keys | None = None
) -> Float16[np.ndarray, "n v d"]:
    """Features of every image in each view that `symmetry` allows, in half precision; only what the
    memo lacks is computed.

    images: anything with a length that gives square uint8 arrays of one size, a memory map
    included. keys: those of the images (see image_keys), if they are known already.
    """
    keys = image_keys(images) if keys is None else keys
    extractor = identity.fingerprint(module)
    asked = (config.cache_folder(), extractor, symmetry, keys.tobytes())
    if asked not in _last:  # a search asks for the same ones in every trial
        _last.clear()
        allocate = partial(np.empty, dtype=np.float16)
        _last[asked] = _assembled(module, extractor, images, keys, symmetry, allocate)
    return _last[asked]


def exact(
    module: nn.Module,
    images: Images,
    path: Path,
    *,
    symmetry: str,
    keys: Keys | None = None,
    dtype: DTypeLike = np.float32,
) -> Float[np.ndarray, "n v d"]:
    """The same in the precision that they were computed in, or another one, in a new .npy file at
    `path`, from which the array is mapped: it need not fit in memory.
    """
    keys = image_keys(images) if keys is None else keys
    allocate = partial(_on_disk, path, dtype)
    return _assembled(module, identity.fingerprint(module), images, keys, symmetry, allocate)


def write_features(
    settings: Mapping[str, Any], images: Images, path: Path, keys: Keys | None = None, *, seed: int
) -> Float16[np.ndarray, "n d"]:
    """Features of every image as it is (no other view), in half precision, in a new .npy file; the
    array is mapped from it, so it need not fit in memory.

    settings: a node with `_target_` that describes the module, which is built, with the seed, only
    where the memo lacks something. keys: those of the images, if they are known already; then only
    images that the memo lacks are decoded.
    """
    keys = image_keys(images) if keys is None else keys
    if not len(keys):
        raise ValueError(NO_IMAGES)
    question = identity.question(settings)
    built = memo.get("extractors", question) if question else None
    if built is None or not _kept(str(built["extractor"]), keys, path):
        extractor = parallel.apart(_write, settings, images, keys, seed, path)
        if question:
            memo.put("extractors", question, {"extractor": np.array(extractor)})
    plain: np.ndarray = store.read_array(path)
    return plain


def image_keys(images: Images) -> Keys:
    """The content of every image, see memo.item."""
    keys = np.empty(len(images), memo.ITEM)
    for i, image in enumerate(images):
        keys[i] = memo.item(image)
        if i % SHARD == 0:
            _release(images)
    return keys


def _kept(extractor: str, keys: Keys, path: Path) -> bool:
    """Whether the memo had the features of all images, which are then in the file."""
    missing: Missing = {(): np.arange(len(keys))}
    _fill(None, extractor, keys, missing, partial(_on_disk, path, np.float16))
    return not len(missing[()])


def _write(settings: Mapping[str, Any], images: Images, keys: Keys, seed: int, path: Path) -> str:
    """Build the module that the settings describe, and fill the file."""
    import torch

    from pipeline.features import learning

    torch.manual_seed(seed)  # no runner could seed what was not imported
    module = config.build(settings, "candidate").eval()
    learning.learn(module, images, keys, seed)
    extractor = identity.fingerprint(module)
    _assembled(module, extractor, images, keys, "none", partial(_on_disk, path, np.float16))
    return extractor


def _on_disk(path: Path, dtype: DTypeLike, shape: tuple[int, int, int]) -> np.ndarray:
    """(n, v, d), filled on disk; of a single view the file holds (n, d)."""
    n, views, d = shape
    return (
        store.open_array(path, (n, d), dtype)[:, None]
        if views == 1
        else store.open_array(path, shape, dtype)
    )


def _release(images: Images) -> None:
    if isinstance(images, np.ndarray):
        store.release(images)


def _assembled(
    module: nn.Module,
    extractor: str,
    images: Images,
    keys: Keys,
    symmetry: str,
    allocate: Allocate,
) -> np.ndarray:
    """(n, v, d), filled from the memo, and with what that lacks."""
    missing: Missing = {flips: np.arange(len(keys)) for flips in SYMMETRIES[symmetry]}
    views, rows = [*missing], memo.Rows(keys)
    result = _fill(None, extractor, keys, missing, allocate)
    for flips, computed, values in _computed(module, extractor, images, keys, missing):
        if result is None:
            result = allocate((len(keys), len(views), values.shape[1]))
        here, which = rows.of(computed)
        result[here, views.index(flips)] = values[which]
        store.release(result)
    if result is None:
        raise ValueError(NO_IMAGES)
    return result


def _fill(
    result: np.ndarray | None, extractor: str, keys: Keys, missing: Missing, allocate: Allocate
) -> np.ndarray | None:
    """Copy what the memo has to its rows, and strike these off the missing ones."""
    for column, (flips, asked) in enumerate(missing.items()):
        known, rows = np.zeros(len(asked), bool), memo.Rows(keys[asked])
        for stored, values in memo.read_rows("features", _place(extractor, flips)):
            here, which = rows.of(stored)
            if len(here):
                if result is None:
                    result = allocate((len(keys), len(missing), values.shape[1]))
                result[asked[here], column] = values[which]
                known[here] = True
            if result is not None:
                store.release(result)
        missing[flips] = asked[~known]
    return result


def _place(extractor: str, flips: Flips) -> str:
    return "-".join([extractor, "view", *map(str, flips)])


def _computed(
    module: nn.Module, extractor: str, images: Images, keys: Keys, missing: Missing
) -> Iterator[tuple[Flips, Keys, np.ndarray]]:
    """View, keys and their features, batch by batch, kept as they come; equal images once. All views
    in one stream, since preparing the engine for a module takes seconds.
    """
    from pipeline.features import engine

    jobs = [
        (flips, some)
        for flips, rows in missing.items()
        for some in store.chunks(_different(rows, keys), engine.BATCH)
    ]
    if not jobs:
        return
    pending: dict[Flips, list[memo.Row]] = {flips: [] for flips in missing}
    batches = parallel.in_order(lambda job: _batch(images, job[1], job[0]), jobs)
    with tqdm(
        total=sum(len(some) for _, some in jobs), desc="features", unit="view", mininterval=1
    ) as progress:
        for (flips, which), output in zip(
            jobs, engine.run(module, batches, images[0].shape[0]), strict=True
        ):
            yield flips, keys[which], output
            pending[flips] += zip(keys[which].tolist(), output, strict=True)
            progress.update(len(which))
            if len(pending[flips]) >= SHARD:
                memo.write_rows("features", _place(extractor, flips), pending[flips])
                pending[flips] = []
                _release(images)
    for flips, rows in pending.items():
        memo.write_rows("features", _place(extractor, flips), rows)


def _different(rows: np.ndarray, keys: Keys) -> list[int]:
    """Those rows of which no earlier one has the same key."""
    first = np.unique(keys[rows], return_index=True)[1]
    different: list[int] = rows[np.sort(first)].tolist()
    return different


def _batch(images: Images, which: list[int], flips: Flips) -> np.ndarray:
    import torch

    from pipeline.pixels.symmetry import view

    stacked = torch.from_numpy(np.stack([images[i] for i in which]))
    result: np.ndarray = view(stacked, flips).numpy()
    return result
