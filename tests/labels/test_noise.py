"""How many labels are expected to be wrong: held against labels that were made wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float64, Int64
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from pipeline.labels import noise, suspects
from pipeline.labels.errors import Labelling

Probs = Float64[np.ndarray, "n k"]
Labels = Int64[np.ndarray, " n"]


def images(n: int, k: int, apart: float, seed: int) -> tuple[np.ndarray, Labels]:
    """Features and true classes; the further apart, the easier."""
    random = np.random.default_rng(seed)
    labels = (np.arange(n) % k).astype(np.int64)
    return apart * np.eye(k, 16)[labels] + random.normal(size=(n, 16)), labels


def exchanged(labels: Labels, share: float, seed: int) -> Labels:
    random, k = np.random.default_rng([seed, 1]), int(labels.max()) + 1
    which = random.permutation(len(labels))[: round(share * len(labels))]
    wrong = labels.copy()
    wrong[which] = (labels[which] + random.integers(1, k, len(which))) % k
    return wrong


def out_of_fold(features: np.ndarray, labels: Labels) -> Probs:
    return cross_val_predict(
        LogisticRegression(C=0.05, max_iter=1000), features, labels, cv=5, method="predict_proba"
    )


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize(("k", "apart"), [(2, 4.0), (5, 4.0), (5, 3.0)])
def test_as_many_are_expected_as_were_made_wrong(k: int, apart: float, share: float) -> None:
    expected, real = [], []
    for seed in range(3):
        features, labels = images(600, k, apart, seed)
        noisy = exchanged(labels, share, seed)
        chance = noise.chance_wrong(noisy, out_of_fold(features, noisy))
        expected.append(chance.sum())
        real.append((noisy != labels).sum())
    assert sum(expected) == pytest.approx(sum(real), rel=0.35, abs=12)


@pytest.mark.parametrize(("apart", "most"), [(2.0, 0.04), (4.0, 0.01), (0.0, 0.15)])
def test_hard_images_with_right_labels_are_not_taken_for_errors(apart: float, most: float) -> None:
    """Where features tell nothing, what is plausible beforehand stands."""
    features, labels = images(600, 4, apart, seed=0)
    assert noise.chance_wrong(labels, out_of_fold(features, labels)).mean() < most


def test_a_wrong_label_has_a_higher_chance_than_a_right_one() -> None:
    features, labels = images(600, 5, 4.0, seed=0)
    noisy = exchanged(labels, 0.1, seed=0)
    chance = noise.chance_wrong(noisy, out_of_fold(features, noisy))
    assert chance[noisy != labels].mean() > 0.8 > 0.05 > chance[noisy == labels].mean()


def test_nothing_is_known_of_a_single_class_or_of_no_image() -> None:
    assert noise.chance_wrong(np.zeros(3, np.int64), np.ones((3, 1))).tolist() == [0.0] * 3
    assert len(noise.chance_wrong(np.zeros(0, np.int64), np.zeros((0, 3)))) == 0


def test_a_class_that_no_label_names_is_no_obstacle() -> None:
    probs = np.tile([0.6, 0.3, 0.1], (4, 1))
    assert np.isfinite(noise.chance_wrong(np.array([0, 1, 0, 1]), probs)).all()


@given(st.integers(2, 6), st.integers(1, 40), st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_any_probabilities_give_chances(k: int, n: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.full(k, 0.05), n)  # nearly all of it in one class, often exactly
    chance = noise.chance_wrong(random.integers(0, k, n), probs)
    assert ((chance >= 0) & (chance <= 1)).all()


def test_the_list_ends_where_fewer_than_one_in_two_would_be_wrong() -> None:
    """Of hard images confident learning names many; those beyond the first are behind "more"."""
    features, labels = images(900, 3, 1.5, seed=0)
    named = suspects.named(
        Labelling(labels, [str(i) for i in range(900)]),
        out_of_fold(features, labels),
        max_fraction=0.2,
    )
    assert named["suspect"].sum() == suspects.FIRST
    assert named["less_suspect"].sum() > suspects.FIRST
    assert not (named["suspect"] & named["less_suspect"]).any()
    assert (
        named.loc[named["suspect"], "suspect_score"].min()
        >= named.loc[named["less_suspect"], "suspect_score"].max()
    )


def test_the_list_is_as_long_as_there_are_errors() -> None:
    features, labels = images(900, 3, 5.0, seed=0)
    noisy = exchanged(labels, 0.1, seed=0)
    named = suspects.named(
        Labelling(noisy, [str(i) for i in range(900)]),
        out_of_fold(features, noisy),
        max_fraction=0.2,
    )
    assert 80 <= named["suspect"].sum() <= 110
    assert (noisy != labels)[named["suspect"]].mean() > 0.8
