"""What a trained network answers to the test images, as they are and altered; kept by the memo."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from scipy.special import softmax
from tqdm import tqdm

from pipeline.evaluation import alterations
from pipeline.evaluation.alterations import Alteration
from pipeline.evaluation.measuring import Answers
from pipeline.features import engine, identity
from pipeline.pixels.symmetry import SYMMETRIES
from pipeline.storage import memo, store, table
from pipeline.training import network, samples
from pipeline.training.network import Network
from pipeline.training.samples import Samples

CODE = ("pipeline.evaluation.alterations", "pipeline.training.answers")


def of_test_images(
    trained: Network, folder: Path, classes: list[str], n_altered: int, seed: int
) -> Answers:
    """The answers to all images of the folder, and to n_altered of them under each alteration."""
    test = samples.load(folder, classes)
    sample = alterations.sample(test.labels, n_altered, seed)
    changes = {**alterations.NATURAL, **alterations.PARTS}
    return Answers(
        rows=table.read(folder),
        images=test,
        labels=test.labels,
        probs=network.probabilities(trained, test),
        classes=classes,
        temperature=float(trained.get_buffer("temperature")),
        sample=sample,
        altered=altered(trained, test.take(sample), changes, seed),
    )


def altered(
    trained: Network, images: Samples, changes: Mapping[str, Alteration], seed: int
) -> dict[str, Float64[np.ndarray, "n k"]]:
    """The calibrated probabilities of all images under each alteration, by the whole network.

    Each image has a random generator of its own, so that results do not depend on the others.
    """
    asked = {
        "alterations": [*changes],
        "seed": seed,
        "network": [identity.fingerprint(part) for part in (trained, trained.extractor)],
    }
    key = memo.key(
        asked, images.keys(), code=CODE, libraries=["opencv-python-headless", "simplejpeg"]
    )
    views = _views(images, changes, seed)
    return memo.once(
        "altered",
        key,
        lambda: dict(
            zip(changes, _answers(trained, views, len(images), len(changes)), strict=True)
        ),
    )


def _views(images: Samples, changes: Mapping[str, Alteration], seed: int) -> Iterator[np.ndarray]:
    for number, alter in enumerate(changes.values()):
        for i, image in enumerate(images):
            yield alter(image, np.random.default_rng([seed, number, i]))


def _answers(
    trained: Network, views: Iterator[np.ndarray], n: int, n_changes: int
) -> Iterator[Float64[np.ndarray, "n k"]]:
    first = next(views)
    every = (image for some in ([first], views) for image in some)
    size = max(1, engine.BATCH // len(SYMMETRIES[trained.symmetry]))  # the network makes the views
    batches = (np.stack(part) for part in store.chunks(every, size))
    outputs = engine.run(trained, batches, first.shape[0])
    total = -(-n * n_changes // size)
    progress = tqdm(outputs, "altered images", total, unit="batch", mininterval=1)
    logits = np.concatenate(list(progress))
    yield from softmax(logits.astype(np.float64), axis=1).reshape(-1, n, logits.shape[1])
