"""Heads that are solved for at once instead of in steps: support vector machines, a logistic
regression.

Axes: n images, v views of each, d features, k classes, r rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64, Shaped
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedGroupKFold
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
Rows = Int64[np.ndarray, " _"]
Shares = Float32[np.ndarray, "n k"]


@dataclass(frozen=True)
class Described:
    """Samples with the features of each of their views."""

    features: Shaped[np.ndarray, "n v d"]
    samples: Samples


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
    _set_last(head, *_separated(x, candidate, train.samples, seed))
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
    _set_last(head, classes, planes @ basis.T, offsets)
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


def logistic(head: nn.Sequential, candidate: Candidate, train: Described, seed: int) -> Notes:
    """Multinomial logistic regression by L-BFGS, in scikit-learn's convention of C: half the
    squared weights plus C times the loss of all rows, each view of an image being a row.

    Values of C from head.strengths are judged by what their models say about images that they have
    not learned from, by cross-validation on the images as they stand; images of one group share a
    fold. Where the best is not clearly better than others, the mean of their planes is taken: few
    images cannot tell which is the right one (FEWTRANS, arXiv 2603.00478). Targets may be graded.
    Returns the best strength, and how many were averaged.
    """
    n, views, _ = train.features.shape
    shares = _counted(candidate.fit, train.samples)
    present = np.flatnonzero(shares.sum(0) > 0)
    shares = shares[:, present]
    strengths = _strengths(head[0], candidate.head.strengths, train, shares, seed)
    rows = np.arange(n * views)
    flat, of_rows = train.features.reshape(n * views, -1), np.repeat(shares, views, axis=0)
    solved = [_solve(head[0], flat, of_rows, rows, C) for C in strengths]
    planes, offsets = (np.mean(part, axis=0) for part in zip(*solved, strict=True))
    _set_last(head, present, planes, offsets)
    return {"head/C": strengths[0], "head/averaged": float(len(strengths))}


def _counted(settings: Fit, samples: Samples) -> Shares:
    """Targets times how much their image and their class count."""
    weights, of_class = samples.weights, class_weights(settings, samples)
    shares = samples.targets if weights is None else samples.targets * weights[:, None]
    return (shares if of_class is None else shares * of_class).astype(np.float32)


def _strengths(
    layer: nn.Module, strengths: list[float], train: Described, shares: Shares, seed: int
) -> list[float]:
    """The best by cross-validation, then those within one standard error of it (Hastie et al., The
    Elements of Statistical Learning, section 7.10); the middle one where no two groups share a
    class.
    """
    features, views = train.features[:, 0], train.features.shape[1]
    some = np.sort(np.random.default_rng(seed).permutation(len(features))[:CHOOSE_BY])
    folds = list(_folds(train.samples, some, seed))
    ordered = sorted(strengths)
    if len(ordered) == 1 or not folds:
        return [ordered[len(ordered) // 2]]
    times = views * len(features) / len(some)  # rows that each of these stands for
    held_out = np.concatenate([fold[1] for fold in folds])
    groups = train.samples.groups
    group = np.unique(held_out if groups is None else groups[held_out], return_inverse=True)[1]
    losses = np.stack(
        [
            np.bincount(
                group,
                np.concatenate([_unseen(layer, features, shares, f, C * times) for f in folds]),
            )
            for C in ordered
        ]
    )  # of each strength and group
    best = int(losses.sum(1).argmin())
    error = losses[best].std() * np.sqrt(losses.shape[1])
    as_good = losses.sum(1) <= losses[best].sum() + error
    return [
        ordered[best],
        *(C for C, good in zip(ordered, as_good, strict=True) if good and ordered[best] != C),
    ]


def _folds(samples: Samples, some: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Rows to learn from and rows to judge; images of classes of a single group are only learned
    from.
    """
    groups = np.arange(len(samples)) if samples.groups is None else samples.groups
    labels = samples.labels[some]
    of_class = {k: len(np.unique(groups[some][labels == k])) for k in np.unique(labels)}
    judged = [k for k, n in of_class.items() if n > 1]
    if len(of_class) < 2 or not judged:
        return
    rows, rest = some[np.isin(labels, judged)], some[~np.isin(labels, judged)]
    n_folds = min(FOLDS, *(of_class[k] for k in judged))
    dealer = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for learned, held_out in dealer.split(rows, samples.labels[rows], groups[rows]):
        yield np.sort(np.concatenate([rows[learned], rest])), rows[held_out]


def _unseen(
    layer: nn.Module, features: np.ndarray, shares: Shares, fold: tuple[Rows, Rows], C: float
) -> Float64[np.ndarray, " _"]:
    """The cross-entropy of each row that was held out."""
    learned, held_out = fold
    planes, offsets = _solve(layer, features, shares, learned, C)
    x = layer(torch.from_numpy(features[held_out]).float()).double().numpy()
    lost: np.ndarray = -(shares[held_out] * log_softmax(x @ planes.T + offsets, axis=1)).sum(1)
    return lost


def _solve(
    layer: nn.Module, features: np.ndarray, shares: Shares, rows: Rows, C: float
) -> tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]:
    k, d = shares.shape[1], features.shape[1]
    scale = 1 / (C * float(shares[rows].sum(dtype=np.float64)))  # a mean loss, whatever n is

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        planes, offsets = flat[: k * d].reshape(k, d), flat[k * d :]
        loss, by_planes, by_offsets = _loss(layer, features, shares, rows, planes, offsets)
        slope = np.concatenate([(planes + C * by_planes).ravel(), C * by_offsets])
        return scale * (0.5 * float((planes**2).sum()) + C * loss), scale * slope

    options = {"maxiter": 1000, "gtol": 1e-5}
    solved = minimize(
        objective, np.zeros(k * (d + 1)), jac=True, method="L-BFGS-B", options=options
    ).x
    return solved[: k * d].reshape(k, d), solved[k * d :]


@torch.inference_mode()
def _loss(
    layer: nn.Module,
    features: np.ndarray,
    shares: Shares,
    rows: Rows,
    planes: Float64[np.ndarray, "k d"],
    offsets: Float64[np.ndarray, " k"],
) -> tuple[float, Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]:
    """The cross-entropy of these rows, summed, and its slopes; a part of the rows at a time."""
    w, b = torch.from_numpy(planes).float(), torch.from_numpy(offsets).float()
    loss, by_w, by_b = 0.0, torch.zeros(w.shape).double(), torch.zeros(b.shape).double()
    for start, end in pairwise([*range(0, len(rows), AT_ONCE), len(rows)]):
        part = rows[start:end]
        x, target = layer(torch.from_numpy(features[part]).float()), torch.from_numpy(shares[part])
        log_probs = torch.log_softmax(x @ w.T + b, dim=1)
        loss -= float((target * log_probs).sum(dtype=torch.float64))
        slope = target.sum(1, keepdim=True) * log_probs.exp() - target
        by_w += slope.T @ x
        by_b += slope.sum(0)
    return loss, by_w.numpy(), by_b.numpy()


def _set_last(
    head: nn.Sequential, classes: np.ndarray, planes: np.ndarray, offsets: np.ndarray
) -> None:
    last = head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(ABSENT)
        last.weight[classes] = torch.from_numpy(planes).float()
        last.bias[classes] = torch.from_numpy(offsets).float()
