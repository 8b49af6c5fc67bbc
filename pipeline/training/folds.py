"""Folds of training images that keep classes in proportion, and groups whole."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64, UInt64
from sklearn.model_selection import StratifiedGroupKFold

Rows = Int64[np.ndarray, " _"]


def grouped(
    labels: Int64[np.ndarray, " n"],
    groups: UInt64[np.ndarray, " n"] | Int64[np.ndarray, " n"],
    judged: Bool[np.ndarray, " n"],
    n_folds: int,
    seed: int,
) -> Iterator[tuple[Rows, Rows]]:
    """Rows to learn from and rows to judge, both in order; fewer folds where a class has fewer
    groups, none where there are not two classes, or no class has two groups.

    judged: rows that may be judged; the others, and those of classes of a single group, are only
    learned from, and not in a fold that judges one of their group.
    """
    n_groups = {k: len(np.unique(groups[judged & (labels == k)])) for k in np.unique(labels)}
    dealt = [k for k, n in n_groups.items() if n > 1]
    if len(n_groups) < 2 or not dealt:
        return
    rows = np.flatnonzero(np.isin(labels, dealt))
    n_splits = min(n_folds, *(n_groups[k] for k in dealt))
    dealer = StratifiedGroupKFold(n_splits, shuffle=True, random_state=seed)
    for _, held_out in dealer.split(rows, labels[rows], groups[rows]):
        away = rows[held_out]
        yield np.flatnonzero(~np.isin(groups, groups[away])), away[judged[away]]
