"""Features of a frozen module, computed once: kept by the content of weights and pixels.

.fieldmark/cache/features/<module>/<view>/<shard>.npz   keys S32 (n,), values float16 (n, d)
Shards are written as they come, so a killed run goes on where it stopped. The folder may be deleted at any time.
"""

import hashlib
import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16
from torch import nn
from tqdm import tqdm

from pipeline import config, store
from pipeline.features import engine
from pipeline.training.views import SYMMETRIES, view

SHARD = 32 * engine.BATCH
Flips = tuple[int, ...]
Images = Sequence[np.ndarray] | np.ndarray
_last: dict[tuple[object, ...], np.ndarray] = {}


def features(module: nn.Module, images: Images, *, symmetry: str) -> Float16[np.ndarray, "n v d"]:
    """Features of every image in each view that `symmetry` allows; only what the cache lacks is computed.

    images: anything with a length that gives square uint8 arrays of one size, a memory map included.
    """
    folder = _root() / _fingerprint(module)
    keys = [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16).hexdigest().encode() for image in images]
    asked = (folder, symmetry, *keys)
    if asked not in _last:  # a search asks for the same ones in every trial
        _last.clear()
        _last[asked] = _assembled(module, images, keys, folder, symmetry)
    return _last[asked]


def _assembled(module: nn.Module, images: Images, keys: list[bytes], folder: Path, symmetry: str) -> np.ndarray:
    places = {flips: folder / "-".join(["view", *map(str, flips)]) for flips in SYMMETRIES[symmetry]}
    known = {flips: _read(place) for flips, place in places.items()}
    missing = {flips: [i for i, key in enumerate(keys) if key not in known[flips]] for flips in places}
    _compute(module, images, keys, missing, known, places)
    return np.stack([[known[flips][key] for flips in places] for key in keys])


def _compute(
    module: nn.Module, images: Images, keys: list[bytes], missing: dict[Flips, list[int]],
    known: dict[Flips, dict[bytes, np.ndarray]], places: dict[Flips, Path],
) -> None:  # fmt: skip
    """All views in one stream, since preparing the engine for a module takes seconds."""
    jobs = [(flips, which) for flips, rows in missing.items() for which in store.chunks(rows, engine.BATCH)]
    if not jobs:
        return
    pending: dict[Flips, list[tuple[bytes, np.ndarray]]] = {flips: [] for flips in places}
    batches = (_batch(images, which, flips) for flips, which in jobs)
    with tqdm(total=sum(map(len, missing.values())), desc="features", unit="view", mininterval=1) as progress:
        for (flips, which), output in zip(jobs, engine.run(module, batches, images[0].shape[0]), strict=True):
            pending[flips] += [(keys[i], row) for i, row in zip(which, output.astype(np.float16), strict=True)]
            progress.update(len(which))
            if len(pending[flips]) >= SHARD:
                known[flips].update(_write(places[flips], pending[flips]))
                pending[flips] = []
    for flips, rows in pending.items():
        known[flips].update(_write(places[flips], rows))


def _batch(images: Images, which: list[int], flips: Flips) -> np.ndarray:
    stacked = torch.from_numpy(np.stack([images[i] for i in which]))
    result: np.ndarray = view(stacked, flips).numpy()
    return result


def _fingerprint(module: nn.Module) -> str:
    """Of the weights, the architecture as printed, the plain settings and the engine."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in module.state_dict().items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    settings = {k: v for k, v in vars(module).items() if isinstance(v, (int, float, str, list, tuple))}
    digest.update(f"{module} {sorted(settings.items())} {engine.name()}".encode())
    return digest.hexdigest()


def _root() -> Path:
    return Path(os.environ.get("FIELDMARK_CACHE", config.home() / ".fieldmark" / "cache")) / "features"


def _read(folder: Path) -> dict[bytes, np.ndarray]:
    return {key: row for shard in sorted(folder.glob("*.npz")) for key, row in _rows(shard)}


def _rows(shard: Path) -> Iterator[tuple[bytes, np.ndarray]]:
    with np.load(shard, allow_pickle=False) as stored:
        keys, values = stored["keys"], stored["values"]
    return zip(keys.tolist(), values, strict=True)


def _write(folder: Path, rows: list[tuple[bytes, np.ndarray]]) -> list[tuple[bytes, np.ndarray]]:
    if rows:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{uuid.uuid4().hex}.partial"
        with partial.open("wb") as file:
            np.savez(file, keys=np.array([key for key, _ in rows]), values=np.stack([value for _, value in rows]))
        partial.rename(folder / f"{rows[0][0].decode()}-{len(rows)}.npz")
    return rows
