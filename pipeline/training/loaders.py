"""Images and features in batches for the loop, and how long it waited for them."""

import os
import time
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from pipeline.compute import parallel
from pipeline.config.schema import Fit
from pipeline.training import augmentation, samples
from pipeline.training.augmentation import Policy
from pipeline.training.devices import ALONE, Place
from pipeline.training.order import SeededOrder
from pipeline.training.samples import FeatureRows, ImageRows, Samples
from pipeline.training.solve import Described


class Loader(DataLoader[Any]):
    """Knows the seconds in which its reader waited for batches, and in which it used them."""

    waited = used = 0.0

    def __iter__(self) -> Any:
        return self._timed(super().__iter__())

    @property
    def waiting_share(self) -> float:
        """Of the time in which batches were read; NaN where none was."""
        both = self.waited + self.used
        return self.waited / both if both else float("nan")

    def _timed(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The last batch of an epoch counts in neither: nobody says when it has been used."""
        asked = time.perf_counter()
        for batch in batches:
            given = time.perf_counter()
            yield batch
            self.waited += given - asked
            asked = time.perf_counter()
            self.used += asked - given


def of_features(
    rows: FeatureRows, val: Described | None, settings: Fit, seed: int
) -> tuple[Loader, Loader | None]:
    """Whole batches from memory: rows to learn from, and the validation images with all views."""
    order = order_of(rows.arrays[2], settings, seed)
    loader = Loader(rows, sampler=order, batch_size=None)
    if val is None:
        return loader, None
    watched = FeatureRows(val.features, val.samples.targets, val.samples.labels)
    unshuffled = SeededOrder(len(watched), settings.batch_size, seed, shuffle=False)
    return loader, Loader(watched, sampler=unshuffled, batch_size=None)


def of_images(
    train: Samples,
    val: Samples | None,
    policy: Policy,
    input_px: int | None,
    settings: Fit,
    seed: int,
    place: Place = ALONE,
) -> tuple[Loader, Loader | None]:
    """Training images under the policy, and validation images as they stand; both averaged down to
    input_px where the extractor would do so.
    """
    rows = ImageRows(train, augmentation.shrunk(policy, input_px))
    loader = _of_rows(rows, order_of(train.labels, settings, seed, place))
    if not val:
        return loader, None
    unshuffled = SeededOrder(
        len(val), settings.batch_size, seed, shuffle=False, rank=place.rank, world=place.world
    )
    return loader, _of_rows(ImageRows(val, augmentation.shrunk(None, input_px)), unshuffled)


def order_of(labels: np.ndarray, settings: Fit, seed: int, place: Place = ALONE) -> SeededOrder:
    """The order of training images, each epoch of as many steps as fit.min_steps asks for."""
    steps = -(-settings.min_steps // settings.epochs)
    chances = None
    if settings.sampling == "balanced":
        counts = np.bincount(labels)
        chances = 1 / (counts[labels] * np.count_nonzero(counts))
    return SeededOrder(
        len(labels),
        settings.batch_size,
        seed,
        shuffle=True,
        steps=steps,
        chances=chances,
        rank=place.rank,
        world=place.world,
    )


def _of_rows(images: ImageRows, order: SeededOrder) -> Loader:
    workers = int(os.environ.get("FIELDMARK_WORKERS", min(8, parallel.N_CORES - 1)))
    return Loader(
        images,
        batch_sampler=order,
        num_workers=workers,
        persistent_workers=workers > 0,
        # Of its own: it draws a number as it begins, how often depends on the number of processes,
        # and dropout draws from the common one.
        generator=torch.Generator(),
        multiprocessing_context=_loader_processes() if workers else None,
    )


def _loader_processes() -> ForkServerContext:
    """How to start them: not as copies of this process, whose threads (of torch, OpenVINO, MLflow)
    may hold locks just then.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(
        [samples.__name__, augmentation.__name__]
    )  # once for all of them
    return context
