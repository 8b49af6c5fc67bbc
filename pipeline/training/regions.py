"""Where in a photo a network's answers rest: its maps by occlusion, those of shuffled twins, and its
answers where the box that a map names is blurred. Kept by the memo.

regions.csv        one row per image with a map: evaluation/regions.COLUMNS
regions.npy        their pictures, uint8 (n, s, s, 3)
region_maps.npy    the effect of each cell on the answer in log-odds, float32 (n, g, g)

Axes: n images, s side in pixels, g cells per side, v answers.
"""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32, Int64
from scipy.special import logsumexp
from tqdm import tqdm

from pipeline.config.schema import Regions
from pipeline.evaluation import occlusion, regions
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.measuring import Answers
from pipeline.evaluation.occlusion import Box
from pipeline.evaluation.regions import ANYWHERE, Looked
from pipeline.features import engine, identity
from pipeline.robustness import views
from pipeline.storage import csvs, memo, store
from pipeline.training.network import Network
from pipeline.training.samples import Samples

CODE = ("pipeline.training.regions",)
COMPARED = 6  # maps that each network with shuffled weights makes, spread over the images
LIBRARIES = ("numpy", "opencv-python-headless", "scipy")
Odds = Float32[np.ndarray, "n v"]


def measured(
    trained: Network, test: Answers, settings: Regions | None, fit: str, seed: int, out: Path
) -> Figures:
    """The figures of evaluation/regions; the table, pictures and maps go into `out`.

    fit: how the photos were made square.
    """
    assert isinstance(test.images, Samples)
    n_mistakes, n_right = (settings.mistakes, settings.right) if settings else (0, 0)
    which = regions.chosen(test.labels, test.probs, n_mistakes, n_right, seed)
    images, answers = test.images.take(which), test.probs[which].argmax(axis=1)
    looked = regions.NOTHING
    if settings and len(which):
        network = trained if settings.all_views else views.single(trained)
        assert isinstance(network, Network)
        looked = look(network, images, answers, settings, seed)
    table = regions.table(looked, test, which, fit)
    csvs.write(table, out / "regions.csv")
    np.save(out / "regions.npy", np.array([*images], np.uint8).reshape(-1, *test.images[0].shape))
    np.save(out / "region_maps.npy", looked.maps)
    return regions.figures(table)


def look(
    network: Network,
    images: Samples,
    answers: Int64[np.ndarray, " n"],
    settings: Regions,
    seed: int,
) -> Looked:
    """The maps of the answers, of the network and of one of its shuffled twins for each image, and
    the answers to blurred images.
    """
    whole, maps = _maps(network, images, answers, settings.cells, "maps")
    shuffled = np.full_like(maps, np.nan)
    for number in range(min(settings.shuffles, len(images))):
        rows = np.arange(number, len(images), max(settings.shuffles, len(images) // COMPARED))
        rows = rows[:COMPARED]
        twin, part = with_shuffled_weights(network, seed + number), images.take(rows)
        shuffled[rows] = _maps(twin, part, answers[rows], settings.cells, "maps to compare")[1]
    side_px = images[0].shape[0]
    boxes = [regions.box(effect, side_px) for effect in maps]
    blurred = np.full((len(images), 1 + ANYWHERE), np.nan, np.float32)
    named = np.array([i for i, box in enumerate(boxes) if box], np.int64)
    if len(named):
        key = {"boxes": [boxes[i] for i in named.tolist()], "seed": seed}
        some, stream = images.take(named), _blurred(images, boxes, seed)
        blurred[named] = _odds(network, some, answers[named], stream, key, "maps to check")
    return Looked(maps, shuffled, whole, blurred)


def with_shuffled_weights(network: Network, seed: int) -> Network:
    """A copy in which the numbers of each tensor stand in random order.

    So they keep their scale, and lose what was learned, in any architecture.
    """
    generator = torch.Generator().manual_seed(seed)
    twin = deepcopy(network)
    for tensor in twin.state_dict().values():
        if tensor.is_floating_point():
            order = torch.randperm(tensor.numel(), generator=generator)
            tensor.copy_(tensor.flatten()[order].view_as(tensor))
    return twin


def _blurred(images: Samples, boxes: list[Box | None], seed: int) -> Iterator[np.ndarray]:
    """Each image that has a box with that one blurred, and then with others of its size."""
    for i, box in enumerate(boxes):
        if box:
            random = np.random.default_rng([seed, i])
            places = [box, *regions.anywhere(box, len(images[i]), random)]
            yield from (regions.blurred(images[i], place) for place in places)


def _maps(
    network: Network,
    images: Samples,
    answers: Int64[np.ndarray, " n"],
    cells: int,
    what: str,
) -> tuple[Float32[np.ndarray, " n"], Float32[np.ndarray, "n g g"]]:
    stream = (view for image in images for view in (image, *occlusion.covered(image, cells)))
    odds = _odds(network, images, answers, stream, {"cells": cells}, what)
    maps = [occlusion.effects(float(each[0]), each[1:], cells) for each in odds]
    return odds[:, 0], np.stack(maps)


def _odds(
    network: Network,
    images: Samples,
    answers: Int64[np.ndarray, " n"],
    stream: Iterator[np.ndarray],
    asked: dict[str, object],
    what: str,
) -> Odds:
    """The log-odds of each image's answer in its views, as many of each image."""
    by = [identity.fingerprint(part) for part in (network, network.extractor)]
    key = memo.key({**asked, "network": by}, images.keys(), answers, code=CODE, libraries=LIBRARIES)
    return memo.array("regions", key, lambda: _computed(network, images, answers, stream, what))


def _computed(
    network: Network,
    images: Samples,
    answers: Int64[np.ndarray, " n"],
    stream: Iterator[np.ndarray],
    what: str,
) -> Odds:
    """From logits, since probabilities of sure answers are rounded to 1."""
    progress = tqdm(stream, what, unit="view", mininterval=1)
    batches = (np.stack(part) for part in store.chunks(progress, engine.BATCH))
    outputs = np.concatenate([*engine.run(network, batches, images[0].shape[0])])
    logits = outputs.astype(np.float64).reshape(len(images), -1, outputs.shape[1])
    its = logits[np.arange(len(images)), :, answers]
    logits[np.arange(len(images)), :, answers] = -np.inf
    odds: Odds = np.nan_to_num(its - logsumexp(logits, axis=2)).astype(np.float32)
    return odds
