"""Heads that are fitted by a solver instead of in steps: support vector machines; logistic.py holds
another one.

Axes: n images, v views of each, d features, k classes, r rows.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Shaped
from sklearn.svm import LinearSVC
from torch import nn

from pipeline.config.schema import Candidate, Fit
from pipeline.training.heads import Nearness
from pipeline.training.samples import Samples

Notes = dict[str, float]
ABSENT = -10.0  # logit of a class without a training image, which is never the answer
FOLDS = 5
FAINT = 1e-6  # of the largest eigenvalue: directions of a kernel below it are rounding
CHOOSE_BY = 10_000  # images by which a strength is chosen, at most
AT_ONCE = 4096  # rows that are in memory in full precision
Shares = Float32[np.ndarray, "n k"]


@dataclass(frozen=True)
class Described:
    """Samples with the features of each of their views."""

    features: Shaped[np.ndarray, "n v d"]
    samples: Samples


def parted(
    features: np.ndarray, train: Samples, val: Samples | None
) -> tuple[Described, Described | None]:
    """What is learned from and what is watched, of features of both, one after the other."""
    n = len(train)
    return Described(features[:n], train), Described(features[n:], val) if val else None


def class_weights(settings: Fit, train: Samples) -> Float32[np.ndarray, " k"] | None:
    """How much each class counts in the loss; None where all images count the same."""
    if settings.class_weights == "none":
        return None
    weighted = train.targets if train.weights is None else train.targets * train.weights[:, None]
    counts = np.maximum(weighted.sum(0), 1e-9)
    of_class: np.ndarray = (counts.sum() / (len(counts) * counts)).astype(np.float32)
    return of_class


def svm(head: nn.Sequential, candidate: Candidate, train: Described, seed: int) -> Notes:
    """scikit-learn's linear SVM, one against the rest; its planes become the last layer."""
    x = head[0](_rows(train)).numpy()
    set_last(head, *_separated(x, candidate, train.samples, seed))
    return {}


def svm_rbf(head: nn.Sequential, candidate: Candidate, train: Described, seed: int) -> Notes:
    """The same on the Nystroem approximation of a Gaussian kernel (Williams and Seeger, NIPS 2000).

    Landmarks are drawn from the images as they stand. The change of basis is part of the last
    layer, so that the head is the nearness to each landmark under one linear layer.
    """
    kernel, last = head[1], head[2]
    assert isinstance(kernel, Nearness) and isinstance(last, nn.Linear)
    n, room = len(train.samples), last.in_features
    chosen = np.sort(np.random.default_rng(seed).permutation(n)[:room])
    landmarks = head[0](torch.from_numpy(train.features[chosen, 0]).float())
    kernel.get_buffer("landmarks")[: len(chosen)] = landmarks  # the others have no weight
    values, vectors = np.linalg.eigh(kernel(landmarks)[:, : len(chosen)].double().numpy())
    kept = values > FAINT * values.max()
    basis = np.zeros((room, int(kept.sum())))
    basis[: len(chosen)] = vectors[:, kept] / np.sqrt(values[kept])
    x = kernel(head[0](_rows(train))).double().numpy() @ basis
    classes, planes, offsets = _separated(x, candidate, train.samples, seed)
    set_last(head, classes, planes @ basis.T, offsets)
    return {}


def _rows(train: Described) -> torch.Tensor:
    """Each view of each image is a row."""
    return torch.from_numpy(train.features.reshape(-1, train.features.shape[-1])).float()


def _separated(
    x: np.ndarray, candidate: Candidate, samples: Samples, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes that occur, and the plane and the offset of each; x has the same number of rows,
    one after the other, for each sample.
    """
    weight = "balanced" if candidate.fit.class_weights == "balanced" else None
    svm = LinearSVC(
        C=candidate.head.C, class_weight=weight, random_state=seed, dual=True, max_iter=20000
    )
    views = len(x) // len(samples)
    counted = None if samples.weights is None else np.repeat(samples.weights, views)
    svm.fit(x, np.repeat(samples.labels, views), sample_weight=counted)
    if len(svm.classes_) > 2:
        return svm.classes_, svm.coef_, svm.intercept_
    offsets = np.concatenate([-svm.intercept_, svm.intercept_])
    return svm.classes_, np.vstack([-svm.coef_, svm.coef_]), offsets


def set_last(
    head: nn.Sequential, classes: np.ndarray, planes: np.ndarray, offsets: np.ndarray
) -> None:
    last = head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(ABSENT)
        last.weight[classes] = torch.from_numpy(planes).float()
        last.bias[classes] = torch.from_numpy(offsets).float()
