"""Stratified folds that keep groups whole, and the sample that a model learns from where there are
many images.

Axes: n images, f folds, k classes.
"""

import numpy as np
import pandas as pd
from jaxtyping import Float, Float64, Int64
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from pipeline.storage import store

# Bounds the memory and the time of a fit: a model learns from no more rows.
LEARN = 20_000
# Bounds the memory: this many rows are taken up or judged at once.
AT_ONCE = 4096


class StratifiedGroups(StratifiedGroupKFold):  # type: ignore[misc]
    """scikit-learn's StratifiedGroupKFold: the same folds, some ten times as fast, by trying all
    folds for a group at once.
    """

    def _find_best_fold(
        self,
        y_counts_per_fold: Float64[np.ndarray, "f k"],
        y_cnt: Int64[np.ndarray, " k"],
        group_y_counts: Float64[np.ndarray, " k"],
    ) -> int:
        tried = np.eye(self.n_splits)[:, :, None] * group_y_counts + y_counts_per_fold
        # np.std by hand, which on so few numbers takes longer to start than to compute.
        tried /= y_cnt
        tried -= tried.sum(axis=1, keepdims=True) / self.n_splits
        tried *= tried
        spread = np.sqrt(tried.sum(axis=1) / self.n_splits)
        uneven, size = (
            (spread.sum(axis=1) / len(y_cnt)).tolist(),
            y_counts_per_fold.sum(axis=1).tolist(),
        )
        best = 0
        for fold in range(1, self.n_splits):
            alike = abs(uneven[fold] - uneven[best]) <= 1e-8 + 1e-5 * uneven[best]  # np.isclose
            if uneven[fold] < uneven[best] or (alike and size[fold] < size[best]):
                best = fold
        return best


def drawn(
    rows: Int64[np.ndarray, " r"], labels: Int64[np.ndarray, " n"], seed: int
) -> Int64[np.ndarray, " t"]:
    """A random choice of at most LEARN rows, in order, in which each class keeps its share and one
    row at least.
    """
    if len(rows) <= LEARN:
        return rows
    chance = pd.Series(np.random.default_rng(seed).permutation(len(rows)))
    within = chance.groupby(labels[rows]).rank(pct=True)
    within[chance.groupby(labels[rows]).rank() == 1] = 0
    return rows[np.sort(np.argsort(within.to_numpy(), kind="stable")[:LEARN])]


def scaled(
    features: Float[np.ndarray, "m d"], rows: Int64[np.ndarray, " r"], scaler: StandardScaler
) -> Float64[np.ndarray, "r d"]:
    """The rows in double precision under the scaler, which is fitted to them; a part at a time, or
    else there would be four copies.
    """
    wide = np.empty((len(rows), features.shape[1]))
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(rows), AT_ONCE)]
    for part in parts:
        wide[part] = features[rows[part]]
        store.release(features)
        scaler.partial_fit(wide[part])
    for part in parts:
        wide[part] = scaler.transform(wide[part])
    return wide
