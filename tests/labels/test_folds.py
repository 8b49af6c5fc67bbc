"""The folds are scikit-learn's, to the last image."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from pipeline.labels.folds import StratifiedGroups


def held_out(
    kind: type[StratifiedGroupKFold], labels: np.ndarray, groups: np.ndarray, folds: int, seed: int
) -> list[list[int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class with fewer images than folds
        return [
            rows.tolist()
            for _, rows in kind(folds, shuffle=True, random_state=seed).split(
                labels, labels, groups
            )
        ]


@given(
    seed=st.integers(0, 2**31),
    folds=st.integers(2, 6),
    n=st.integers(30, 200),
    classes=st.integers(1, 20),
    alike=st.integers(1, 8),
)
@settings(max_examples=50)
def test_each_image_is_held_out_where_scikit_learn_would(
    seed: int, folds: int, n: int, classes: int, alike: int
) -> None:
    """Of that many alike on average; all classes are uneven."""
    random = np.random.default_rng(seed)
    labels = np.concatenate(
        [np.zeros(folds, np.int64), random.integers(0, classes, n) * random.integers(0, 2, n)]
    )
    groups = np.concatenate([np.arange(folds), random.integers(0, max(folds, n // alike), n)])
    assert held_out(StratifiedGroups, labels, groups, folds, seed) == held_out(
        StratifiedGroupKFold, labels, groups, folds, seed
    )


def test_no_fold_is_searched_for_in_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scikit-learn that no longer asks the method of this name would bring its own back."""
    labels, groups = np.arange(40) % 3, np.arange(40)
    monkeypatch.delattr(StratifiedGroupKFold, "_find_best_fold")
    assert sorted(sum(held_out(StratifiedGroups, labels, groups, 4, 0), [])) == list(range(40))
    with pytest.raises(AttributeError):
        held_out(StratifiedGroupKFold, labels, groups, 4, 0)
