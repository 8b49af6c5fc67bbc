"""Training images on disk with their targets: rows of one or more memory-mapped arrays, never all
in memory.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from mmap import mmap
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, UInt64
from pandas.util import hash_array
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.features import cache
from pipeline.features.cache import Keys
from pipeline.storage import memo, store, table
from pipeline.training.order import Key, Transform


@dataclass(frozen=True)
class Samples(Sequence[np.ndarray]):
    """Images by position, uint8 (h, w, 3), with targets.

    place: (n, 2), which array and which row of it. weights: see table. groups: a number for what
    belongs together, near-duplicates and views of one image; None where that is not known.
    """

    arrays: tuple[np.ndarray, ...]
    place: Int64[np.ndarray, "n 2"]
    targets: Float32[np.ndarray, "n k"]
    labels: Int64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"] | None = None
    groups: UInt64[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.place)

    def __getitem__(self, i: int) -> np.ndarray:  # type: ignore[override]
        if not 0 <= i < len(self):
            raise IndexError(i)
        array, row = self.place[i]
        return np.asarray(self.arrays[array][row])

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the files of whole arrays itself, instead of being sent what is in
        them.
        """
        return {
            **self.__dict__,
            "arrays": [Path(str(a.filename)) if _maps_a_file(a) else a for a in self.arrays],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = (store.read_array(a) if isinstance(a, Path) else a for a in state["arrays"])
        self.__dict__.update(state, arrays=tuple(arrays))

    def keys(self) -> Keys:
        """The content of each image, see memo.item; of an array in a file, whose images are
        read only once in a process.
        """
        keys = np.empty(len(self), memo.ITEM)
        for number, array in enumerate(self.arrays):
            here = np.flatnonzero(self.place[:, 0] == number)
            rows = self.place[here, 1]
            if _maps_a_file(array):
                info = os.stat(str(array.filename))
                keys[here] = _keys_of_file(str(array.filename), info.st_size, info.st_mtime_ns)[
                    rows
                ]
            else:
                keys[here] = cache.image_keys(array[rows])
        return keys

    def content(self) -> list[np.ndarray]:
        """Everything that decides on what is learned from these, for the memo."""
        given = (self.weights, self.groups)
        none = np.array([part is None for part in given])
        return [
            self.keys(),
            self.targets,
            self.labels,
            none,
            *(part for part in given if part is not None),
        ]

    def take(self, which: np.ndarray) -> "Samples":
        """The samples at these positions."""
        weights, groups = (
            None if part is None else part[which] for part in (self.weights, self.groups)
        )
        place, targets, labels = (part[which] for part in (self.place, self.targets, self.labels))
        return Samples(self.arrays, place, targets, labels, weights, groups)

    def __add__(self, other: "Samples") -> "Samples":
        moved = other.place + np.array([len(self.arrays), 0])
        place, targets, labels = (
            np.concatenate(pair)
            for pair in (
                (self.place, moved),
                (self.targets, other.targets),
                (self.labels, other.labels),
            )
        )
        known = self.groups is not None and other.groups is not None
        return Samples(
            self.arrays + other.arrays,
            place,
            targets,
            labels,
            self._joined_weights(other),
            np.concatenate([self.groups, other.groups]) if known else None,
        )

    def _joined_weights(self, other: "Samples") -> np.ndarray | None:
        if self.weights is None and other.weights is None:
            return None
        return np.concatenate(
            [np.ones(len(part)) if part.weights is None else part.weights for part in (self, other)]
        )


def load(folder: Path, classes: list[str], *, split: str | None = None) -> Samples:
    """The images.npy and table.parquet of a folder, or one split of them."""
    rows = table.read(folder)
    array = store.read_array(folder / "images.npy")
    keep = np.flatnonzero(rows["split"] == split) if split else np.arange(len(rows))
    rows = rows.iloc[keep]
    labels = rows["label"].map({name: i for i, name in enumerate(classes)}).to_numpy(np.int64)
    place = np.stack([np.zeros(len(keep), np.int64), keep], axis=1)
    groups = (
        hash_array(rows["dup_group"].to_numpy(object), categorize=False)
        if "dup_group" in rows
        else None
    )
    targets, weights = table.targets(rows, classes), table.weights(rows)
    return Samples((array,), place, targets, labels, weights, groups)


def train_and_val(preprocess_dev: Path, augment: Path) -> tuple[list[str], Samples, Samples]:
    """The classes, the training images with the views that augment stored, and the validation
    images.
    """
    classes: list[str] = json.loads((preprocess_dev / "classes.json").read_text(encoding="utf-8"))
    train = load(preprocess_dev, classes, split="train") + load(augment / "extra", classes)
    return classes, train, load(preprocess_dev, classes, split="val")


class FeatureRows(Dataset[tuple[Tensor, ...]]):
    """Features (n, d), or (n, v, d) to be averaged over the views, with targets, labels and
    weights, where there are any. draw: of the views of an image one is given, by its seed.

    Fetched a whole batch of SeededOrder at a time; nothing else here is random.
    """

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray | None = None,
        draw: bool = False,
    ) -> None:
        self.draw = draw
        self.arrays = [features, targets, labels, *_single(weights)]

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, keys: list[Key]) -> tuple[Tensor, ...]:
        which = [i for i, _ in keys]
        features, *others = self.arrays
        views = [seed % features.shape[1] for _, seed in keys] if self.draw else ()
        given = features[which, views] if self.draw else features[which]
        rest = (torch.from_numpy(array[which]) for array in others)
        return torch.from_numpy(np.asarray(given)).float(), *rest


class ImageRows(Dataset[tuple[np.ndarray | np.generic, ...]]):
    """Images under a random transform, such as augmentation.Policy; since keys hold the seeds,
    results do not depend on loader processes.
    """

    def __init__(self, samples: Samples, transform: Transform | None) -> None:
        self.samples, self.transform = samples, transform
        self.weights = _single(samples.weights)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> tuple[np.ndarray | np.generic, ...]:
        i, seed = key
        image = self.samples[i]
        image = self.transform(image, seed) if self.transform else image.copy()
        return (
            image,
            self.samples.targets[i],
            self.samples.labels[i],
            *(weights[i] for weights in self.weights),
        )


@lru_cache(maxsize=8)
def _keys_of_file(file: str, n_bytes: int, changed: int) -> Keys:
    return cache.image_keys(store.read_array(Path(file)))


def _maps_a_file(array: np.ndarray) -> TypeGuard[np.memmap[Any, Any]]:
    return isinstance(array, np.memmap) and isinstance(
        array.base, mmap
    )  # a part of one has that one as its base


def _single(weights: np.ndarray | None) -> list[np.ndarray]:
    return [] if weights is None else [weights.astype(np.float32)]
