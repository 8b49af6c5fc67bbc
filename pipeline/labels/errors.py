"""What models of the other images say of each image: they have seen neither it nor its near-duplicates.

Axes: n images, d features, k classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from pipeline.labels.folds import AT_ONCE, LEARN, StratifiedGroups, drawn, scaled
from pipeline.storage import memo, store, table

# A ceiling, not a setting: the solver stops when it has converged, long before.
MAX_ITERATIONS = 10_000
MOST_SHARES = 2  # of each of the images learned from, on average

Labels = Int64[np.ndarray, " n"]
Features = Float[np.ndarray, "m d"]
Weights = Float64[np.ndarray, " n"]
Shares = Float64[
    np.ndarray, "n k"
]  # how much of each class an image is said to be, where labels are graded
Probs = Float64[
    np.ndarray, "j k"
]  # of the j images that a fold judges, by the classes that it knows


@dataclass(frozen=True)
class Labelling:
    """What is said of n images: the class of each, 0 to k-1, and its group, which no two folds
    share.

    weights: how much each counts in what is learned, beside the others; None: all the same. shares:
    how much of each class it is; None: every label is certain.
    """

    labels: Labels
    groups: Sequence[str]
    weights: Weights | None = None
    shares: Shares | None = None


def labelling(rows: pd.DataFrame) -> tuple[list[str], Labelling]:
    """The classes, sorted, and what is said of rows that have a label; reads label, soft_label,
    weight and dup_group.
    """
    labels, names = pd.factorize(rows["label"], sort=True)
    classes: list[str] = names.tolist()
    return classes, Labelling(
        labels, rows["dup_group"].tolist(), table.weights(rows), table.shares(rows, classes)
    )


def out_of_fold(
    features: Features,
    labelling: Labelling,
    *,
    folds: int,
    C: float,
    seed: int,
    rows: Labels | None = None,
) -> Float64[np.ndarray, "n k"]:
    """Class probabilities of each image by a linear model of the folds that hold nothing of its
    group.

    C is the inverse strength of regularisation; an image of several shares is learned as some of
    each class. features may be mapped from disk; rows are the images' rows in them, all by default.
    A model learns from at most folds.LEARN images, drawn so that each class keeps its share. There
    are no more folds than the rarest class has groups. Where nothing can be learned about an
    image's own class, because the class has a single group or all of it fell into one fold, its row
    is uniform: no evidence against the label. The memo keeps the
    answer, and until there is one that of each fold, so that a killed run goes on where it was.
    """
    given = (labelling.weights, labelling.shares, rows)
    question = memo.key(
        {
            "how": [folds, C, seed],
            "groups": list(labelling.groups),
            "given": [part is not None for part in given],
        },
        features,
        labelling.labels,
        *(part for part in given if part is not None),
        code=(__name__,),
        libraries=("scikit-learn", "numpy", "scipy"),
    )
    probs = memo.array(
        "folds", question, lambda: _out_of_fold(features, labelling, folds, C, seed, rows, question)
    )
    for fold in range(folds):
        memo.forget("folds", f"{question}-{fold}")
    return probs


def _out_of_fold(
    features: Features,
    labelling: Labelling,
    folds: int,
    C: float,
    seed: int,
    rows: Labels | None,
    question: str,
) -> Float64[np.ndarray, "n k"]:
    labels, weights = labelling.labels, labelling.weights
    classes = int(labels.max()) + 1 if len(labels) else 0
    probs = np.full((len(labels), classes), 1 / max(classes, 1))
    place = np.arange(len(labels)) if rows is None else rows
    numbered = pd.factorize(np.array(labelling.groups, dtype=object), sort=True)[
        0
    ]  # an array of names of 64 letters is copied several times
    for fold, (whole, held_out) in enumerate(_folds(labels, numbered, folds, seed)):
        train = drawn(whole if weights is None else whole[weights[whole] > 0], labels, seed)
        known = np.unique(labels[train])
        judged = held_out[np.isin(labels[held_out], known)]
        if len(known) < 2 or len(judged) == 0:
            continue
        counted = None if weights is None else table.relative(weights[train])
        learned, taught, counted = (
            (train, labels[train], counted)
            if labelling.shares is None
            else _graded(train, known, counted, labelling.shares)
        )
        judge = partial(_judged, features, place[judged], place[learned], taught, counted, C)
        probs[judged] = 0
        probs[np.ix_(judged, known)] = memo.array("folds", f"{question}-{fold}", judge)
    return probs


def _folds(
    labels: Labels, groups: np.ndarray, folds: int, seed: int
) -> Iterator[tuple[Int64[np.ndarray, " a"], Int64[np.ndarray, " b"]]]:
    """Rows to learn from and rows to judge, leaving out classes of a single group."""
    groups_of_class = pd.Series(groups).groupby(labels).nunique()
    learnable = groups_of_class[groups_of_class > 1]
    if len(learnable) < 2:
        return
    rows = np.flatnonzero(np.isin(labels, learnable.index))
    dealer = StratifiedGroups(min(folds, int(learnable.min())), shuffle=True, random_state=seed)
    for train, held_out in dealer.split(rows, labels[rows], groups[rows]):
        yield rows[train], rows[held_out]


def _graded(
    train: Int64[np.ndarray, " r"],
    known: Int64[np.ndarray, " c"],
    counted: Float64[np.ndarray, " r"] | None,
    shares: Shares,
) -> tuple[Int64[np.ndarray, " s"], Int64[np.ndarray, " s"], Float64[np.ndarray, " s"]]:
    """Rows, labels and weights: a row for each class that it has a share of. Of very many the
    smallest shares are left out.
    """
    own = shares[np.ix_(train, known)]
    which, label = np.nonzero(own)
    weight = own[which, label] * (1.0 if counted is None else counted[which])
    kept = np.sort(np.argsort(-weight, kind="stable")[: MOST_SHARES * LEARN])
    return train[which[kept]], known[label[kept]], weight[kept]


def _judged(
    features: Features,
    judged: Int64[np.ndarray, " j"],
    learned: Int64[np.ndarray, " r"],
    labels: Int64[np.ndarray, " r"],
    counted: Float64[np.ndarray, " r"] | None,
    C: float,
) -> Probs:
    """What a model that has learned some rows says of the judged ones."""
    scaler, model = StandardScaler(copy=False), LogisticRegression(C=C, max_iter=MAX_ITERATIONS)
    scaled_features = scaled(features, learned, scaler)
    # Its steps are so small that several threads would mostly wait for each other.
    with threadpool_limits(1):
        model.fit(scaled_features, labels, sample_weight=counted)
    del scaled_features  # or else the largest array of all would be there beside the answer
    probs = np.empty((len(judged), len(model.classes_)))
    for some in np.array_split(np.arange(len(judged)), -(-len(judged) // AT_ONCE)):
        probs[some] = model.predict_proba(
            scaler.transform(features[judged[some]].astype(np.float64))
        )
        store.release(features)
    return probs
