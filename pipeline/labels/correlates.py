"""Classes that one property tells apart without a look at the picture: its size, brightness,
format, camera, metadata.

A model learns such a shortcut instead of the thing (Geirhos et al., Nature Machine Intelligence
2020). Axes: n images, k classes.
"""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from pipeline.labels.folds import StratifiedGroups, drawn

COLUMNS = ["property", "label", "auc", "accuracy", "majority"]
FOLDS = 5
# A leaf of fewer images would learn single images by heart.
LEAF_IMAGES = 5
LEAVES_A_CLASS = 4
# A text that takes more values than this names single images rather than kinds of them.
MOST_VALUES = 50
# scikit-learn's trees compute in single precision.
LARGEST = float(np.finfo(np.float32).max)

Folds = list[tuple[np.ndarray, np.ndarray]]


def correlates(rows: pd.DataFrame, *, ignore: Sequence[str], seed: int) -> pd.DataFrame:
    """A row a property and class, the most telling first: COLUMNS.

    auc       how well a small tree on that property alone tells the class from the rest (ROC AUC,
              out of fold)
    accuracy  the share that it says rightly, beside majority, the share of always saying the
              likelier answer

    rows are the labelled ones of label-check's table, with its scores; ignore names metadata that
    is no property (a label by another name). Classes of fewer than FOLDS groups are left out; of
    two classes, the smaller stands for both.
    """
    groups = rows.groupby("label")["dup_group"].nunique()
    rows = rows[rows["label"].isin(groups[groups >= FOLDS].index)]
    names, labels = np.unique(rows["label"].to_numpy(dtype=object).astype(str), return_inverse=True)
    lines: list[tuple[str, str, float, float, float]] = []
    if len(names) > 1:
        dealer = StratifiedGroups(FOLDS, shuffle=True, random_state=seed)
        dealt = dealer.split(labels, labels, pd.factorize(rows["dup_group"], sort=True)[0])
        folds = [(drawn(known, labels, seed), asked) for known, asked in dealt]
        for name, values in _properties(rows, set(ignore)):
            lines += [(name, *figures) for figures in _figures(values, labels, names, folds, seed)]
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values(
        ["auc", "property", "label"], ascending=[False, True, True], ignore_index=True
    )


def _properties(
    rows: pd.DataFrame, ignore: set[str]
) -> Iterator[tuple[str, Float64[np.ndarray, " n"]]]:
    """Name and values as numbers, of those that differ."""
    metadata = pd.DataFrame([json.loads(text) for text in rows["metadata"]], index=rows.index)
    plain = {
        "size": rows["width"].astype(float) * rows["height"],
        "aspect": rows["width"] / rows["height"],
        "file size": rows["n_bytes"],
        "format": rows["format"],
        "brightness": rows["brightness_score"],
        "contrast": rows["contrast_score"],
        "sharpness": rows["blur_score"],
        "group": rows["group"],
    }
    for name, column in [
        *plain.items(),
        *((str(name), _read(metadata[name])) for name in metadata if name not in ignore),
    ]:
        values = _numbers(column)
        if values is not None and len(np.unique(values)) > 1:
            yield name, values


def _read(column: pd.Series) -> pd.Series:
    """As numbers where all the texts are some: in a CSV file everything is text."""
    metadata = column.dropna()
    numbers = (
        pd.to_numeric(metadata, errors="coerce")
        if all(isinstance(value, str) for value in metadata)
        else None
    )
    return column if numbers is None or numbers.isna().any() else numbers.reindex(column.index)


def _numbers(column: pd.Series) -> Float64[np.ndarray, " n"] | None:
    """Numbers as they are, kinds counted from 0 in the order of the alphabet; None for what names
    single images.
    """
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(np.float64).fillna(-1.0).clip(-LARGEST, LARGEST).to_numpy()
    codes, kinds = pd.factorize(column.fillna("").astype(str), sort=True)
    return codes.astype(np.float64) if len(kinds) <= MOST_VALUES else None


def _figures(
    values: Float64[np.ndarray, " n"],
    labels: Int64[np.ndarray, " n"],
    names: np.ndarray,
    folds: Folds,
    seed: int,
) -> Iterator[tuple[str, float, float, float]]:
    tree = DecisionTreeClassifier(
        max_leaf_nodes=LEAVES_A_CLASS * len(names), min_samples_leaf=LEAF_IMAGES, random_state=seed
    )
    probs = cross_val_predict(tree, values[:, None], labels, cv=folds, method="predict_proba")
    judged = np.arange(len(names)) if len(names) > 2 else np.array([np.bincount(labels).argmin()])
    own, pred = labels[:, None] == judged, probs[:, judged]
    shares, right = own.mean(axis=0), (own == (pred > 0.5)).mean(axis=0)
    aucs = np.atleast_1d(roc_auc_score(own, pred, average=None))
    for i, auc, accuracy, share in zip(judged, aucs, right, shares, strict=True):
        yield str(names[i]), float(auc), float(accuracy), float(max(share, 1 - share))
