"""Features of a frozen module, computed once: kept by the content of weights and pixels.

.fieldmark/cache/features/<module>/<view>/<shard>.npz   keys S32 (n,), values float16 (n, d)
.fieldmark/cache/features/<settings>.txt                <module>: what `settings` were built to, for
                                                        write_features
Shards are written as they come, so a killed run goes on where it stopped. The folder may be deleted
at any time, and a shard that cannot be read is computed again. torch is imported only where
something is computed; write_features does that in a process of its own, since torch and the engine
would hold some 700 MiB to the end.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Int64
from tqdm import tqdm

from pipeline import config
from pipeline.compute import parallel
from pipeline.features import weights
from pipeline.pixels.symmetry import SYMMETRIES
from pipeline.storage import shards, store

if TYPE_CHECKING:
    from torch import nn

SHARD = 512  # images
KEY = np.dtype("S32")
NO_IMAGES = "there are no images to compute features of"
Flips = tuple[int, ...]
Images = Sequence[np.ndarray] | np.ndarray
Keys = shards.Keys  # of KEY
Rows = Int64[np.ndarray, " _"]
Missing = dict[Flips, Rows]
Allocate = Callable[[tuple[int, int, int]], np.ndarray]
_last: dict[tuple[object, ...], np.ndarray] = {}


def features(module: nn.Module, images: Images, *, symmetry: str) -> Float16[np.ndarray, "n v d"]:
    """Features of every image in each view that `symmetry` allows; only what the cache lacks is
    computed.

    images: anything with a length that gives square uint8 arrays of one size, a memory map
    included.
    """
    folder = _root() / _fingerprint(module)
    keys = _keys(images)
    asked = (folder, symmetry, keys.tobytes())
    if asked not in _last:  # a search asks for the same ones in every trial
        _last.clear()
        _last[asked] = _assembled(
            module, images, keys, folder, symmetry, partial(np.empty, dtype=np.float16)
        )
    return _last[asked]


def write_features(
    settings: Mapping[str, Any], images: Images, path: Path, keys: Keys | None = None, *, seed: int
) -> Float16[np.ndarray, "n d"]:
    """Features of every image as it is (no other view) in a new .npy file; the array is mapped from
    it, so it need not fit in memory.

    settings: a node with `_target_` that describes the module, which is built only where the cache
    lacks something, with the seed. keys: those of the images (see `key`), if they are known
    already; then only images that the cache lacks are decoded.
    """
    keys = _keys(images) if keys is None else keys

    def allocate(shape: tuple[int, int, int]) -> np.ndarray:
        return store.open_array(path, (shape[0], shape[2]), np.float16)[:, None]

    if not len(keys):
        raise ValueError(NO_IMAGES)
    note = _note(settings)
    found = (
        _kept(_root() / note.read_text(encoding="utf-8"), keys, allocate)
        if note and note.exists()
        else None
    )
    while found is None:  # once, unless somebody deletes the shards meanwhile
        folder = parallel.apart(_computed, settings, images, keys, seed)
        found = _kept(folder, keys, allocate)
        if note:
            with store.whole(note) as half:
                half.write_text(folder.name, encoding="utf-8")
    plain: np.ndarray = found[:, 0]
    return plain


def key(image: np.ndarray) -> bytes:
    """The content of an image, 32 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest().encode()


def _note(settings: Mapping[str, Any]) -> Path | None:
    """Where it stands what these settings were built to; None where more than settings and code
    decides on that.
    """
    file = weights.file_of(settings.get("weights", "random"))
    if file is None:
        return None
    digest = hashlib.blake2b(file.read_bytes(), digest_size=16)
    targets = find_spec(settings["_target_"].rpartition(".")[0])
    code = sorted(
        [*Path(__file__).parent.glob("*.py"), *([Path(str(targets.origin))] if targets else [])]
    )
    for source in code:
        digest.update(source.read_bytes())
    versions = [version(package) for package in ("torch", "torchvision", "timm", "openvino")]
    chosen = [os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "FIELDMARK_ACCELERATOR")]
    devices = [*sorted(map(str, Path("/dev").glob("nvidia[0-9]*"))), *chosen]  # see engine.name
    digest.update(json.dumps([settings, versions, devices], sort_keys=True, default=str).encode())
    return _root() / f"{digest.hexdigest()}.txt"


def _kept(folder: Path, keys: Keys, allocate: Allocate) -> np.ndarray | None:
    """(n, 1, d) of the module whose folder it is, if that has all of them."""
    missing: Missing = {(): np.arange(len(keys))}
    found = _fill(None, keys, missing, _places(folder, "none"), allocate)
    return None if len(missing[()]) else found


def _computed(settings: Mapping[str, Any], images: Images, keys: Keys, seed: int) -> Path:
    """The folder of the module that the settings describe, once it has what it lacked."""
    import torch

    torch.manual_seed(seed)  # no runner could seed what was not imported
    module = config.build(settings, "candidate").eval()
    folder = _root() / _fingerprint(module)
    places = _places(folder, "none")
    rows, missing = shards.Rows(keys), np.ones(len(keys), bool)
    for stored, _ in shards.read(places[()]):
        missing[rows.of(stored)[0]] = False
    _compute(module, images, keys, {(): np.flatnonzero(missing)}, places)
    return folder


def _keys(images: Images) -> Keys:
    keys = np.empty(len(images), KEY)
    for i, image in enumerate(images):
        keys[i] = key(image)
        if i % SHARD == 0:
            _release(images)
    return keys


def _release(images: Images) -> None:
    if isinstance(images, np.ndarray):
        store.release(images)


def _assembled(
    module: nn.Module, images: Images, keys: Keys, folder: Path, symmetry: str, allocate: Allocate
) -> np.ndarray:
    """(n, v, d), filled from one shard after the other."""
    places = _places(folder, symmetry)
    missing: Missing = {flips: np.arange(len(keys)) for flips in places}
    result = _fill(None, keys, missing, places, allocate)
    while any(map(len, missing.values())):  # once, unless somebody deletes the shards meanwhile
        _compute(module, images, keys, missing, places)
        result = _fill(result, keys, missing, places, allocate)
    if result is None:
        raise ValueError(NO_IMAGES)
    return result


def _places(folder: Path, symmetry: str) -> dict[Flips, Path]:
    return {flips: folder / "-".join(["view", *map(str, flips)]) for flips in SYMMETRIES[symmetry]}


def _fill(
    result: np.ndarray | None,
    keys: Keys,
    missing: Missing,
    places: dict[Flips, Path],
    allocate: Allocate,
) -> np.ndarray | None:
    """Copy what the cache has to its rows, and strike these off the missing ones."""
    for column, (flips, place) in enumerate(places.items()):
        asked, found = missing[flips], np.zeros(len(missing[flips]), bool)
        rows = shards.Rows(keys[asked])
        for stored, values in shards.read(place) if len(asked) else ():
            here, which = rows.of(stored)
            if len(here):
                result = (
                    allocate((len(keys), len(places), values.shape[1]))
                    if result is None
                    else result
                )
                result[asked[here], column] = values[which]
                found[here] = True
            if result is not None:
                store.release(result)
        missing[flips] = asked[~found]
    return result


def _compute(
    module: nn.Module, images: Images, keys: Keys, missing: Missing, places: dict[Flips, Path]
) -> None:
    """All views in one stream, since preparing the engine for a module takes seconds."""
    from pipeline.features import engine

    jobs = [
        (flips, some)
        for flips, rows in missing.items()
        for some in store.chunks(rows.tolist(), engine.BATCH)
    ]
    if not jobs:
        return
    pending: dict[Flips, list[tuple[bytes, np.ndarray]]] = {flips: [] for flips in places}
    batches = parallel.in_order(lambda job: _batch(images, job[1], job[0]), jobs)
    with tqdm(
        total=sum(map(len, missing.values())), desc="features", unit="view", mininterval=1
    ) as progress:
        for (flips, which), output in zip(
            jobs, engine.run(module, batches, images[0].shape[0]), strict=True
        ):
            pending[flips] += zip(keys[which].tolist(), output.astype(np.float16), strict=True)
            progress.update(len(which))
            if len(pending[flips]) >= SHARD:
                shards.write(places[flips], pending[flips])
                pending[flips] = []
                _release(images)
    for flips, rows in pending.items():
        shards.write(places[flips], rows)


def _batch(images: Images, which: list[int], flips: Flips) -> np.ndarray:
    import torch

    from pipeline.pixels.symmetry import view

    stacked = torch.from_numpy(np.stack([images[i] for i in which]))
    result: np.ndarray = view(stacked, flips).numpy()
    return result


def _fingerprint(module: nn.Module) -> str:
    """Of the weights, the architecture as printed, the plain settings and the engine."""
    from pipeline.features import engine

    digest = hashlib.blake2b(digest_size=16)
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    settings = {
        k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, list, tuple))
    }
    digest.update(f"{module} {sorted(settings.items())} {engine.name()}".encode())
    return digest.hexdigest()


def _root() -> Path:
    return config.cache_folder() / "features"
