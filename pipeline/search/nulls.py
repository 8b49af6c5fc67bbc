"""What needs no learning: the largest class, and the nearest neighbour among thumbnails."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from sklearn.neighbors import KNeighborsClassifier

from pipeline.search import trial
from pipeline.search.trial import Data
from pipeline.training.samples import Samples

LEARN = 5_000  # images, at most, among which neighbours are looked for
SIDE = 16  # of a thumbnail, in pixels


def accuracies(parts: Sequence[Data]) -> dict[str, float]:
    """null/largest_class and null/nearest_thumbnail: accuracy on the images that judge candidates."""
    largest, nearest = [], []
    for part in parts:
        labels = part.val.labels
        largest.append(labels == np.bincount(part.train.labels).argmax())
        share = min(1.0, LEARN / len(part.train))
        some = part.train.take(trial.subset(part.train.labels, share, 0))
        neighbour = KNeighborsClassifier(n_neighbors=1).fit(_thumbnails(some), some.labels)
        nearest.append(neighbour.predict(_thumbnails(part.val)) == labels)
    return {
        "null/largest_class": float(np.concatenate(largest).mean()),
        "null/nearest_thumbnail": float(np.concatenate(nearest).mean()),
    }


def sentence(figures: Mapping[str, float]) -> str:
    """What a model has to beat."""
    return (
        f"For comparison, always the largest class reaches an accuracy of "
        f"{figures['null/largest_class']:.3f}, and the nearest neighbour among thumbnails of "
        f"{SIDE} pixels {figures['null/nearest_thumbnail']:.3f}."
    )


def _thumbnails(images: Samples) -> Float[np.ndarray, "n d"]:
    return np.stack([_thumbnail(image) for image in images]).reshape(len(images), -1)


def _thumbnail(image: np.ndarray) -> Float[np.ndarray, "side side 3"]:
    """Means over a grid; a smaller image keeps its size."""
    side = min(SIDE, image.shape[0])
    cell = image.shape[0] // side
    cut = image[: side * cell, : side * cell].reshape(side, cell, side, cell, 3)
    means: Float[np.ndarray, "side side 3"] = cut.mean(axis=(1, 3))
    return means
