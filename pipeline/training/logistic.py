"""A logistic regression as a head, fitted by a solver: its strength by cross-validation.

Axes: n images, v views of each, d features, k classes, r rows.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float32, Float64
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import nn

from pipeline.config.schema import Candidate, Fit
from pipeline.training.folds import Rows, grouped
from pipeline.training.samples import Samples
from pipeline.training.solve import Described, Notes, class_weights, set_last

FOLDS = 5
CHOOSE_BY = 10_000  # images by which a strength is chosen, at most
AT_ONCE = 4096  # rows that are brought to full precision together
HELD = 40_000_000  # numbers in full precision that are kept between passes over the rows, at most
Shares = Float32[np.ndarray, "n k"]
Planes = tuple[Float64[np.ndarray, "k d"], Float64[np.ndarray, " k"]]  # and their offsets
Parts = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]  # some rows, and their shares


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
    solved = list(_path(head[0], flat, of_rows, rows, sorted(strengths)))
    planes, offsets = (np.mean(part, axis=0) for part in zip(*solved, strict=True))
    set_last(head, present, planes, offsets)
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
    class. They are tried in rising order, until one is clearly worse than the best: what lies beyond
    fits the rows still closer, and takes the longest.
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
    paths = [
        _path(layer, features, shares, learned, [C * times for C in ordered])
        for learned, _ in folds
    ]
    losses = np.empty((0, int(group.max()) + 1))  # of each strength and group
    for solved in zip(*paths, strict=True):
        lost = [
            _unseen(layer, features, shares, fold[1], planes)
            for fold, planes in zip(folds, solved, strict=True)
        ]
        losses = np.vstack([losses, np.bincount(group, np.concatenate(lost))])
        sums = losses.sum(1)
        best = int(sums.argmin())
        error = losses[best].std() * np.sqrt(losses.shape[1])
        if sums[-1] > sums[best] + error:
            break
    as_good = sums <= sums[best] + error
    return [
        ordered[best],
        *(C for C, good in zip(ordered, as_good, strict=False) if good and ordered[best] != C),
    ]


def _folds(samples: Samples, some: Rows, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Of some rows, in order: those to learn from, and those to judge."""
    groups = np.arange(len(samples)) if samples.groups is None else samples.groups
    every = np.ones(len(some), bool)
    for learned, away in grouped(samples.labels[some], groups[some], every, FOLDS, seed):
        yield some[learned], some[away]


def _unseen(
    layer: nn.Module, features: np.ndarray, shares: Shares, held_out: Rows, solved: Planes
) -> Float64[np.ndarray, " _"]:
    """The cross-entropy of each row that was held out."""
    planes, offsets = solved
    x = layer(torch.from_numpy(features[held_out]).float()).double().numpy()
    lost: np.ndarray = -(shares[held_out] * log_softmax(x @ planes.T + offsets, axis=1)).sum(1)
    return lost


def _path(
    layer: nn.Module, features: np.ndarray, shares: Shares, rows: Rows, strengths: list[float]
) -> Iterator[Planes]:
    """The planes of each strength, which rise: each begins where the one before ended, which is
    near. What is not asked for is not solved.
    """
    k, parts = shares.shape[1], _parts(layer, features, shares, rows)
    n = float(shares[rows].sum(dtype=np.float64))
    flat = np.zeros(k * (features.shape[1] + 1))
    for C in strengths:
        objective = partial(_objective, parts=parts, C=C, scale=1 / (C * n), k=k)
        options = {"maxiter": 1000, "gtol": 1e-5}
        flat = minimize(objective, flat, jac=True, method="L-BFGS-B", options=options).x
        yield flat[:-k].reshape(k, -1), flat[-k:]


def _parts(layer: nn.Module, features: np.ndarray, shares: Shares, rows: Rows) -> Parts:
    """The rows in full precision, a part of them at a time; where they are few, computed only once."""

    def computed() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start, end in pairwise([*range(0, len(rows), AT_ONCE), len(rows)]):
            part = rows[start:end]
            yield layer(torch.from_numpy(features[part]).float()), torch.from_numpy(shares[part])

    if len(rows) * features.shape[1] > HELD:
        return computed
    held = list(computed())
    return lambda: held


@torch.inference_mode()
def _objective(
    flat: Float64[np.ndarray, " p"], *, parts: Parts, C: float, scale: float, k: int
) -> tuple[float, Float64[np.ndarray, " p"]]:
    """Half the squared planes plus C times the cross-entropy of all rows, and its slopes; times the
    scale, by which it is a mean loss whatever the number of rows.
    """
    planes, offsets = flat[:-k].reshape(k, -1), flat[-k:]
    w, b = torch.from_numpy(planes).float(), torch.from_numpy(offsets).float()
    loss, by_w, by_b = 0.0, torch.zeros(w.shape).double(), torch.zeros(b.shape).double()
    for x, target in parts():
        log_probs = torch.log_softmax(x @ w.T + b, dim=1)
        loss -= float((target * log_probs).sum(dtype=torch.float64))
        slope = target.sum(1, keepdim=True) * log_probs.exp() - target
        by_w += slope.T @ x
        by_b += slope.sum(0)
    slopes = np.concatenate([(planes + C * by_w.numpy()).ravel(), C * by_b.numpy()])
    return scale * (0.5 * float((planes**2).sum()) + C * loss), scale * slopes
