"""What to label next: groups of similar images, and a model of the labels so far.

It changes no result, only the order in which a person sees images. Axes: n images, d dimensions, k
classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.labels.duplicates import unit

DIMENSIONS = 48
CLUSTER_SIZE = 20  # images per cluster on average
MOST_CLUSTERS = 1000
FITTED_ON = 20_000  # images to which PCA and k-means are fitted
GROUP = 12  # images per group
CHOICE = 4  # candidates per requested group, from which dissimilar groups are chosen
FOLDS = 4
SHARES = (0.25, 0.5, 0.75, 1.0)

Points = Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class Map:
    """The positions of the images and their clusters; made once."""

    points: Points
    cluster: Int64[np.ndarray, " n"]
    to_centre: Float32[np.ndarray, " n"]
    order: list[int]  # clusters, each far from the ones before it


@dataclass(frozen=True)
class Guess:
    """The predictions of a model of the labels so far: likeliest classes and probabilities."""

    label: list[str]
    probability: Float32[np.ndarray, " n"]


def survey(embedding: np.ndarray) -> Map:
    """The map of the images; embedding is (n, any) of any float type."""
    normalised = unit(embedding)
    fitted = np.random.default_rng(0).permutation(len(normalised))[:FITTED_ON]
    dimensions = min(DIMENSIONS, len(fitted), normalised.shape[1])
    points = (
        PCA(
            dimensions,
            svd_solver="randomized" if dimensions < min(normalised.shape) else "full",
            random_state=0,
        )
        .fit(normalised[fitted])
        .transform(normalised)
    )
    points = (points / max(float(points.std()), 1e-9)).astype(np.float32)
    k = int(np.clip(len(normalised) // CLUSTER_SIZE, 1, MOST_CLUSTERS))
    means = KMeans(k, n_init=1, max_iter=30, random_state=0).fit(points[fitted])
    cluster = means.predict(points).astype(np.int64)
    centres = means.cluster_centers_.astype(np.float32)
    middle = int(np.linalg.norm(centres - centres.mean(0), axis=1).argmin())
    return Map(
        points,
        cluster,
        np.linalg.norm(points - centres[cluster], axis=1),
        _far_apart(centres, first=middle),
    )


def guess(where: Map, rows: Sequence[int], labels: Sequence[str]) -> Guess | None:
    """Predictions of a linear model of the labels so far; None before there are two classes."""
    if len(set(labels)) < 2:
        return None
    model = _model().fit(where.points[list(rows)], list(labels))
    probs = model.predict_proba(where.points)
    names = [str(name) for name in model.classes_]
    return Guess([names[i] for i in probs.argmax(1)], probs.max(1).astype(np.float32))


def one_by_one(where: Map, unlabelled: Sequence[int], guessed: Guess | None) -> list[int]:
    """The unlabelled images, the most informative first.

    It takes one of each cluster in turn, the most uncertain first.
    """
    waiting: dict[int, list[int]] = {}
    for row in sorted(unlabelled, key=lambda row: _certainty(where, guessed, row)):
        waiting.setdefault(int(where.cluster[row]), []).append(row)
    clusters = [
        number for number in (where.order if guessed is None else waiting) if number in waiting
    ]
    rounds = range(max(map(len, waiting.values()), default=0))
    return [
        waiting[number][turn]
        for turn in rounds
        for number in clusters
        if turn < len(waiting[number])
    ]


def groups(
    where: Map, unlabelled: Sequence[int], labelled: Sequence[int], guessed: Guess | None, *, n: int
) -> list[list[int]]:
    """n groups of images to label at once, each of one cluster.

    Once there is a model, the images of a group also have the same predicted class. Clusters with
    the fewest labels for their size come first; among them the most uncertain or, without a model,
    those far apart. Very small groups come last. Each group is unlike those before it.
    """
    n_labelled = (
        np.bincount(where.cluster[list(labelled)], minlength=len(where.order))
        if labelled
        else np.zeros(len(where.order))
    )
    members: dict[tuple[int, str], list[int]] = {}
    for row in sorted(unlabelled, key=lambda row: where.to_centre[row]):
        members.setdefault(
            (int(where.cluster[row]), guessed.label[row] if guessed else ""), []
        ).append(row)
    place = {number: i for i, number in enumerate(where.order)}

    def teaches(key: tuple[int, str]) -> tuple[bool, float, float, int]:
        rows = members[key][:GROUP]
        unsure = (
            float(np.mean([_certainty(where, guessed, row) for row in rows])) if guessed else 0.0
        )
        return (
            len(rows) < GROUP // 3,
            float(n_labelled[key[0]]) / (1 + len(rows)),
            unsure,
            place[key[0]],
        )

    best = [members[key][:GROUP] for key in sorted(members, key=teaches)[: CHOICE * n]]
    if guessed and best:
        centres = np.stack([where.points[rows].mean(axis=0) for rows in best])
        best = [best[i] for i in _far_apart(centres, first=0)]
    return best[:n]


def growth(where: Map, rows: Sequence[int], labels: Sequence[str]) -> list[tuple[int, float]]:
    """(number of labels, accuracy) for the first quarter, half, three quarters and all labels.

    The accuracy is cross-validated. Whole clusters are held out: images labelled as one group are
    too similar to test each other. Only classes in at least two clusters count; sizes with fewer
    than two such classes are left out.
    """
    accuracies = {}
    for n in sorted({round(share * len(rows)) for share in SHARES}):
        x, y, cluster = (
            where.points[list(rows[:n])],
            np.array(labels[:n], dtype=str),
            where.cluster[list(rows[:n])],
        )
        spread = {name: len(set(cluster[y == name])) for name in set(y)}
        usable = np.array([spread[name] > 1 for name in y], dtype=bool)
        folds = min([FOLDS, *(k for k in spread.values() if k > 1)])
        if len(set(y[usable])) > 1:
            accuracies[n] = _held_out_accuracy(x[usable], y[usable], cluster[usable], folds)
    return sorted(accuracies.items())


def expected(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The expected accuracy up to twice the labels, by a power law of the error (a log-log fit)."""
    wrong = [(n, 1 - accuracy) for n, accuracy in points if accuracy < 1]
    if len(wrong) < 3:
        return []
    sizes, errors = np.log(np.array(wrong).T)
    slope, start = np.polyfit(sizes, errors, 1)
    last = points[-1][0]
    # More labels do no harm in the long run; a positive slope comes from too few of them.
    return [
        (n, float(1 - np.exp(start + min(slope, 0.0) * np.log(n))))
        for n in (last, round(1.5 * last), 2 * last)
    ]


def _held_out_accuracy(
    x: Points, y: np.ndarray, cluster: Int64[np.ndarray, " n"], folds: int
) -> float:
    right = np.zeros(len(y), dtype=bool)
    splits = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, y, cluster)
    for train, test in splits:
        if len(set(y[train])) > 1:
            right[test] = _model().fit(x[train], y[train]).predict(x[test]) == y[test]
    return float(right.mean())


def _model() -> LogisticRegression:
    return LogisticRegression(C=0.1, max_iter=300)


def _certainty(where: Map, guessed: Guess | None, row: int) -> float:
    return float(guessed.probability[row]) if guessed else float(where.to_centre[row])


def _far_apart(centres: Float32[np.ndarray, "k d"], *, first: int) -> list[int]:
    """Farthest-point order: each is the farthest from all before it."""
    order, gap = [first], np.linalg.norm(centres - centres[first], axis=1)
    while len(order) < len(centres):
        gap[order] = -1
        order.append(int(gap.argmax()))
        gap = np.minimum(gap, np.linalg.norm(centres - centres[order[-1]], axis=1))
    return order
